// Serves the registry of the tests: distribution, with images in a directory and logins from a htpasswd file.
//
//	registry serve CONFIG.yml
//
// The registry's own program has the clients of every cloud's storage, which take minutes to compile.
package main

import (
	"os"

	"github.com/distribution/distribution/v3/registry"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
)

func main() {
	if err := registry.RootCmd.Execute(); err != nil {
		os.Exit(1)
	}
}
