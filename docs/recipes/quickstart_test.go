package recipes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
)

// TestQuickStart does what README.md shows, as it stands there, on a server with
// tables of two engines: it comes back from the backup with all of them. On one server
// all is in the data directory; on the other a table and the binary log are elsewhere.
func TestQuickStart(t *testing.T) {
	mysqldtest.Each(t, []string{mysqldtest.MariaDB1011, mysqldtest.MySQL97}, func(t *testing.T, root *mysqldtest.Root) {
		for name, apart := range map[string]bool{"in the data directory": false, "elsewhere": true} {
			t.Run(name, func(t *testing.T) { quickStart(t, root, apart) })
		}
	})
}

func quickStart(t *testing.T, root *mysqldtest.Root, apart bool) {
	r := read(t, "../../README.md")
	db := newHost(t, "db", root)
	o := mysqldtest.Options{Binlog: true}
	place := ""
	if apart {
		for _, dir := range []string{"/srv/tables", "/srv/binlog"} {
			if err := os.MkdirAll(db.path(dir), 0o777); err != nil {
				t.Fatal(err)
			}
		}
		o = mysqldtest.Options{Config: []string{"log-bin=/srv/binlog/b", "server-id=1"}}
		if !root.MariaDB() {
			o.Config = append(o.Config, "innodb-directories=/srv/tables")
		}
		place = " DATA DIRECTORY='/srv/tables'"
	}
	s := db.serve(o)
	s.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT AUTO_INCREMENT PRIMARY KEY, note TEXT) ENGINE=InnoDB"+place,
		"INSERT INTO shop.orders (note) VALUES (REPEAT('order ', 200))", "INSERT INTO shop.orders (note) SELECT note FROM shop.orders",
		"CREATE TABLE shop.old_orders (id INT PRIMARY KEY) ENGINE=MyISAM", "INSERT INTO shop.old_orders VALUES (7)")
	sh := db.shell()
	sh.must("export HB_RATE_INTERVAL=1") // a reader has more time
	var want map[string]string
	for _, b := range r.take("Quick start") {
		if strings.Contains(b.text, "systemctl stop") {
			want = checksums(t, s)
		}
		began := time.Now()
		printed := sh.must(b.script())
		t.Logf("%v:\n%s%s", time.Since(began).Round(time.Millisecond), b.text, printed)
		if strings.Contains(b.text, "export HB_USER") && root.MariaDB() && !apart {
			demo(t, sh, root)
		}
	}
	if want == nil {
		t.Fatal("nothing was restored")
	}
	hasTables(t, db.db(), want)
	r.complete()
}

// demo runs scripts/demo. Its servers have none of the accounts that the shell's
// variables name.
func demo(t *testing.T, sh *shell, root *mysqldtest.Root) {
	t.Helper()
	env, err := exec.Command("go", "env", "GOROOT", "GOCACHE", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	dirs := strings.Fields(string(env))
	repository, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	printed := sh.must(fmt.Sprintf("(cd %s && PATH=$PATH:%s/bin GOCACHE=%s GOMODCACHE=%s HB_SERVERS=%s TMPDIR=/tmp scripts/demo %s)",
		repository, dirs[0], dirs[1], dirs[2], filepath.Dir(root.Dir), root.Name))
	t.Logf("scripts/demo took %v:\n%s", time.Since(began).Round(time.Millisecond), printed)
}
