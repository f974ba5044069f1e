// Ory Hydra as it is. The tests build it from the Go module proxy: Ory publishes no module of its binary without replacements.
package main

import "github.com/ory/hydra/v2/cmd"

func main() { cmd.Execute() }
