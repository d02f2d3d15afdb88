package source_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"hb/source"
	"hb/source/mysqld"
	"hb/source/mysqld/login"
)

// A backup of the server on this machine, to standard output. The archive is complete
// only if Run returns no error.
func ExampleRun() {
	ctx := context.Background()
	options, _, err := login.Resolve(login.Flags{User: "backup", PasswordFile: "/etc/hb.password"}, login.OSEnv())
	if err != nil {
		log.Fatal(err)
	}
	srv, err := mysqld.Connect(ctx, options)
	if err != nil {
		log.Fatal(err)
	}
	began := time.Now()
	result, err := source.Run(ctx, srv, os.Stdout, source.Options{Parallel: 4, Tmpdir: os.TempDir()})
	if err != nil {
		log.Fatal(err)
	}
	if err := srv.Close(); err != nil {
		log.Fatal(err)
	}
	fmt.Fprintln(os.Stderr, result.Describe(result.Bytes, time.Since(began)))
}
