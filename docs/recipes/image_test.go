package recipes

import (
	"path/filepath"
	"strings"
	"testing"

	"hb/source/mysqld/mysqldtest"
)

func init() { register("image.md", testImage, mysqldtest.MariaDB1011, mysqldtest.MySQL97) }

// testImage builds the image with podman, and does with it what the page shows.
func testImage(t *testing.T, r *recipe, root *mysqldtest.Root) {
	db := newHost(t, "db", root)
	s := db.serve(mysqldtest.Options{Binlog: true})
	fill(t, s)
	want := checksums(t, s)
	sh := db.containers()
	if got := r.run(sh, "hb as a container image"); !strings.Contains(got, "commit: ") {
		t.Errorf("hb version in the container says %s", got)
	}
	// On the tests' hosts the server has its directory and its socket elsewhere, and says so.
	var mounts string
	for _, dir := range []string{filepath.Dir(s.Socket), db.path("/var/lib/mysql")} {
		mounts += " -v " + dir + ":" + dir
	}
	db.write("/usr/local/bin/docker", "#!/bin/sh\n[ $1 = run ] && shift && set -- run"+mounts+" \"$@\"\nexec "+mysqldtest.Program(t, "podman")+" \"$@\"\n")
	r.run(sh, "Back up from a container")
	r.run(sh, "Verify and restore")
	restored(t, db, "/srv/restored", want)
}
