package recipes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hb/source/mysqld/mysqldtest"
)

func init() { register("kubernetes.md", testKubernetes, mysqldtest.MariaDB118) }

// testKubernetes runs the pods with podman. The server is in a container of its own,
// with a pod's host name; hb is in another, and sees neither its process nor its socket.
func testKubernetes(t *testing.T, r *recipe, root *mysqldtest.Root) {
	for _, p := range []string{"age-keygen", "jq"} {
		mysqldtest.Program(t, p)
	}
	db := newHost(t, "db", root)
	store := newStore(t, db)
	fill(t, db.serve(mysqldtest.Options{}))
	if err := db.stop(); err != nil {
		t.Fatal(err)
	}
	sh := db.containers()
	sh.end()
	sh.network = false // the store is on the machine's
	sh.image("mariadb:11.8", "mariadb", "999")
	rcloneImage(t, sh)
	sh.kubectl(store)
	db.write("/srv/conf/pod.cnf", "[mysqld]\nsocket=/var/lib/mysql/mysqld.sock\npid-file=/var/lib/mysql/pid\nport=3306\nbind-address="+db.address+
		"\n[client]\nsocket=/var/lib/mysql/mysqld.sock\n")
	sh.must(`mkdir -p /srv/claims
cp -a /var/lib/mysql /srv/claims/data-mariadb-0
chown -R 999:999 /srv/claims/data-mariadb-0
server() {
	docker run -d --name db --network host --hostname $1-0 -v /srv/claims/data-$1-0:/var/lib/mysql -v /srv/conf:/etc/mysql/conf.d:ro mariadb:11.8
	for i in $(seq 60); do docker exec db mariadb -e "SELECT 1" && break; sleep 1; done
}
server mariadb`)
	look := func() string {
		return sh.must(`docker exec db mariadb -N -e "CHECKSUM TABLE shop.orders, shop.old_orders, mysql.global_priv"`)
	}

	r.run(sh, "Image")
	r.run(sh, "Account and secrets")
	want := look()
	if said := r.run(sh, "The backup"); !strings.Contains(said, "hb: ") {
		t.Errorf("the log of the backup is %s", said)
	}
	if got := objects(sh); len(got) != 1 {
		t.Errorf("the objects are %v, want one backup", got)
	}
	db.shell().must(`docker exec db mariadb -e "DROP DATABASE shop"`)
	testBadPods(t, db.shell())
	if said := r.run(sh, "Restore"); !strings.Contains(said, "restoring 20") {
		t.Errorf("the log of the restore is %s", said)
	}
	sh.must("docker rm -f -t 0 db; server restored")
	if got := look(); got != want {
		t.Errorf("the restored server has\n%s, want\n%s", got, want)
	}
}

// testBadPods: a field that the API does not have is refused, and a backup by a pod
// with a name of its own fails, says why, and leaves no backup.
func testBadPods(t *testing.T, sh *shell) {
	t.Helper()
	ready := 0
	for _, change := range []string{"s/hostname:/hostName:/", "s/claimName:/claim:/", "s/kind: CronJob/kind: Cronjob/", "s/concurrencyPolicy: /&&/"} {
		sh.fails(1, "", "sed '"+change+"' backup.yaml > bad.yaml; cmp -s backup.yaml bad.yaml && exit 2; kubectl apply --validate=strict -f bad.yaml")
	}
	const run = "kubectl apply --validate=strict -f backup.yaml; kubectl create job --from=cronjob/hb-backup bad; kubectl logs job/bad; kubectl wait --for=condition=complete --timeout=1h job/bad"
	sh.must("cp backup.yaml good.yaml; sed -i /hostname:/d backup.yaml")
	sh.fails(3, `host name is "mariadb-0", hb's is "some-pod": connect through the socket, on the server's machine; if hb is in a container`, run)
	sh.must("sed -i 's/HB_HOST/HB_SOCKET/; s,mariadb-0.mariadb,/var/lib/mysql/mysqld.sock,' backup.yaml; docker exec db mariadb -e \"CREATE USER backup@localhost IDENTIFIED BY '$(cat password)'; GRANT ALL ON *.* TO backup@localhost\"")
	sh.fails(3, `host name is "mariadb-0", hb's is "some-pod": one of them is in a container`, run)
	for name := range objects(sh) {
		if strings.HasSuffix(name, ".hb") {
			ready++
		}
	}
	if ready != 1 {
		t.Errorf("%d objects look like backups, want one: %v", ready, objects(sh))
	}
	sh.must("cp good.yaml backup.yaml")
}

// rcloneImage makes an image of the machine's rclone.
func rcloneImage(t *testing.T, s *shell) {
	t.Helper()
	s.must(fmt.Sprintf(`mkdir -p /srv/rclone/bin /srv/rclone/usr/local/bin
cd /srv/rclone
cp -L %s bin/busybox
for name in cat date echo sh sort tail; do ln -s busybox bin/$name; done
rclone=$(command -v rclone)
cp -L --parents $rclone $(ldd $rclone | grep -o '/[^ ]*') .
tar -c . | docker import - docker.io/rclone/rclone:1.71
cd`, mysqldtest.Program(t, "busybox")))
}

// kubectl gives the host a kubectl, and a docker that can push.
func (s *shell) kubectl(store *store) {
	h := s.host
	h.t.Helper()
	decoder := filepath.Join(h.t.TempDir(), "manifests")
	build := exec.Command("go", "build", "-o", decoder, ".")
	build.Dir = "testdata/kubernetes"
	build.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		h.t.Fatalf("build the decoder of manifests: %v\n%s", err, out)
	}
	kubectl, err := filepath.Abs("testdata/kubernetes/kubectl")
	if err != nil {
		h.t.Fatal(err)
	}
	h.write("/usr/local/bin/kubectl", fmt.Sprintf("#!/bin/sh\nHB_MANIFESTS=%s HB_SERVER=%s HB_STORE=%s exec %s \"$@\"\n", decoder, h.address, store.url, kubectl))
	h.write("/usr/local/bin/docker", "#!/bin/sh\n[ \"$1\" != push ] || exit 0\nexec "+mysqldtest.Program(h.t, "podman")+" \"$@\"\n")
}
