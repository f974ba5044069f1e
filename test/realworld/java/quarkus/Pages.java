package shop;

import io.quarkus.oidc.IdToken;
import io.quarkus.security.Authenticated;
import io.quarkus.security.identity.SecurityIdentity;
import jakarta.inject.Inject;
import jakarta.ws.rs.GET;
import jakarta.ws.rs.Path;
import jakarta.ws.rs.Produces;
import jakarta.ws.rs.core.MediaType;
import org.eclipse.microprofile.jwt.JsonWebToken;

/** A public page that names the user of the session, and a page that requires a session and shows its sid. */
@Path("/")
@Produces(MediaType.TEXT_HTML)
public class Pages {
  @Inject SecurityIdentity identity;
  @Inject @IdToken JsonWebToken idToken;

  @GET
  public String home() {
    return identity.isAnonymous() ? "" : identity.getPrincipal().getName();
  }

  @GET
  @Path("sid")
  @Authenticated
  public String sid() {
    return idToken.getClaim("sid");
  }
}
