package shop;

import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.annotation.Bean;
import org.springframework.security.core.annotation.AuthenticationPrincipal;
import org.springframework.security.oauth2.client.oidc.authentication.OidcIdTokenDecoderFactory;
import org.springframework.security.oauth2.core.oidc.user.OidcUser;
import org.springframework.security.oauth2.jose.jws.SignatureAlgorithm;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RestController;

/** A public page that names the user of the session, and a page that requires a session and shows its sid. */
@SpringBootApplication
@RestController
public class App {
  public static void main(String[] args) {
    SpringApplication.run(App.class, args);
  }

  /** The algorithm of ID tokens: without this bean Spring Security accepts RS256 only. */
  @Bean
  OidcIdTokenDecoderFactory idTokenDecoders(@Value("${shop.algorithm}") String algorithm) {
    OidcIdTokenDecoderFactory factory = new OidcIdTokenDecoderFactory();
    factory.setJwsAlgorithmResolver(registration -> SignatureAlgorithm.from(algorithm));
    return factory;
  }

  @GetMapping("/")
  String home(@AuthenticationPrincipal OidcUser user) {
    return user == null ? "" : user.getSubject();
  }

  @GetMapping("/sid")
  String sid(@AuthenticationPrincipal OidcUser user) {
    return user.getIdToken().getClaimAsString("sid");
  }
}
