package recipes

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
)

func init() { register("container.md", testContainer, mysqldtest.MariaDB118, mysqldtest.MySQL97) }

// testContainer runs docker's commands with podman, on images of these servers.
func testContainer(t *testing.T, r *recipe, root *mysqldtest.Root) {
	db := newHost(t, "db", root)
	client, name, o := "mysql", "mysql:9.7", mysqldtest.Options{}
	if root.MariaDB() {
		client, name = "mariadb", "mariadb:11.8"
		o.Init = []string{"innodb-page-size=8192"} // which a server must be told
	}
	fill(t, db.serve(o))
	sh := db.containers()
	sh.must("hb backup > /var/backups/backup.hb")
	look := client + ` -N -e "CHECKSUM TABLE shop.orders, shop.old_orders; SELECT @@innodb_page_size"`
	want := sh.must(look)
	if err := db.kill(); err != nil {
		t.Fatal(err)
	}

	sh.image(name, client, imageUser)
	if root.MariaDB() {
		if got := r.run(sh, "Owner of the files"); !strings.Contains(got, "uid="+imageUser+"(mysql)") {
			t.Errorf("id mysql prints %q", got)
		}
		r.run(sh, "Into a directory of the host")
		r.leave("Into a volume")
	} else {
		r.leave("Owner of the files")
		r.leave("Into a directory of the host")
		r.run(sh, "Into a volume")
	}
	if got := sh.must("docker exec db " + look); got != want {
		t.Errorf("tables in the container:\n%s, want:\n%s", got, want)
	}
	if got := sh.must("docker exec db cat /proc/1/status"); !strings.Contains(got, "Uid:\t"+imageUser+"\t") {
		t.Errorf("the server does not run as user %s:\n%s", imageUser, got)
	}
	sh.must("read -r -n 1 < /dev/tcp/127.0.0.1/3306") // a server says hello
}

// imageUser is the number of the user mysql in images: one that machines do not
// have.
const imageUser = "4242"

// containers opens a terminal on a host with containers, and with a network of
// its own for them.
func (h *host) containers() *shell {
	t := h.t
	t.Helper()
	h.write("/usr/local/bin/docker", "#!/bin/sh\nexec "+mysqldtest.Program(t, "podman")+" \"$@\"\n")
	// crun wants other control groups than some machines have, the default limits
	// are more than root may have there, and locks are the whole machine's.
	mysqldtest.Program(t, "runc")
	h.write("/etc/containers/containers.conf", `[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
`)
	s := h.shell()
	s.network = true
	s.must(mysqldtest.Program(t, "busybox") + " ip link set lo up")
	t.Cleanup(func() {
		if t.Failed() {
			_, out := s.try("docker ps -a; docker logs db")
			t.Log(out)
		}
		if code, out := s.try("docker rm -f -a -t 0"); code != 0 {
			t.Errorf("removing the containers: %s", out)
		}
		// A process that podman has clean up after each container may still be at that, and
		// makes files again.
		for end := time.Now().Add(10 * time.Second); os.RemoveAll(h.path("/var/lib/containers")) != nil && time.Now().Before(end); {
			time.Sleep(50 * time.Millisecond)
		}
	})
	return s
}

// image makes an image of the host's server. Like the official ones it has a user
// mysql, of that number, reads /etc/mysql/conf.d, and runs the server if nothing else is
// asked for.
func (s *shell) image(name, client, user string) {
	h := s.host
	h.t.Helper()
	for file, text := range map[string]string{
		"passwd": "root:x:0:0::/:/bin/sh\nmysql:x:" + user + ":" + user + "::/:/bin/sh\n",
		"group":  "root:x:0:\nmysql:x:" + user + ":\n",
		"my.cnf": "[client]\nsocket=/run/mysqld/mysqld.sock\n[mysqld]\nuser=mysql\ndatadir=/var/lib/mysql\nsocket=/run/mysqld/mysqld.sock\n" +
			"!includedir /etc/mysql/conf.d\n",
	} {
		h.write("/srv/image/etc/"+file, text)
	}
	s.must(fmt.Sprintf(`cd /srv/image
mkdir -p etc/mysql/conf.d usr/bin run/mysqld var/lib/mysql var/lib/mysql-files
mkdir -m 1777 tmp
chown %[1]s run/mysqld var/lib/mysql*
cp %[2]s usr/bin/busybox
for name in cat chown id sh; do ln -s busybox usr/bin/$name; done
for name in bin lib lib64 sbin; do ln -s usr/$name $name; done
tar -c --exclude gconv . -C %[3]s usr/sbin/%[4]sd usr/bin/%[4]s usr/share/%[4]s usr/lib/x86_64-linux-gnu usr/lib64 |
	docker import -c 'CMD ["%[4]sd"]' -c 'VOLUME /var/lib/mysql' - docker.io/library/%[5]s
cd`, user, mysqldtest.Program(h.t, "busybox"), h.at.Dir, client, name))
}
