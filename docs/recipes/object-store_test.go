package recipes

import (
	"encoding/json"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"hb/source/infofile"
	"hb/source/mysqld/mysqldtest"
)

func init() { register("object-store.md", testObjectStore, mysqldtest.MariaDB1011) }

func testObjectStore(t *testing.T, r *recipe, root *mysqldtest.Root) {
	mysqldtest.Program(t, "age-keygen")
	db := newHost(t, "db", root)
	s := newStore(t, db)
	server := db.serve(mysqldtest.Options{Binlog: true})
	fill(t, server)
	fillRandom(t, server)
	want := checksums(t, server)
	sh := db.shell()

	r.run(sh, "Keys")
	r.run(sh, "Upload with aws")
	archive := uploaded(t, sh)
	r.run(sh, "Restore")
	restored(t, db, "/srv/restored", want)

	testServerDies(t, db, sh, s)
	testUploadDies(t, db, sh, s)
	testCutObjects(t, sh, archive)
	testParts(t, sh, s)

	if left := r.run(sh, "Interrupted uploads"); strings.Count(left, "\tdb/20") != 1 {
		t.Errorf("parts that are left: %q", left)
	}
	r.runAll(sh)
	restored(t, db, "/srv/restored-2", want)
}

// objects returns names and sizes of the objects below db/.
func objects(sh *shell) map[string]int64 {
	sh.host.t.Helper()
	sizes := map[string]int64{}
	for line := range strings.Lines(sh.must("rclone lsf --format sp store:backups/db")) {
		size, name, _ := strings.Cut(strings.TrimSpace(line), ";")
		n, err := strconv.ParseInt(size, 10, 64)
		if err != nil {
			sh.host.t.Fatalf("%q: %v", line, err)
		}
		sizes[name] = n
	}
	return sizes
}

// uploaded checks that there is one backup, whose size is what its info-file says,
// and returns its name.
func uploaded(t *testing.T, sh *shell) (archive string) {
	t.Helper()
	sizes := objects(sh)
	for name := range sizes {
		if strings.HasSuffix(name, ".hb") {
			archive = name
		}
	}
	var i infofile.Info
	name := strings.TrimSuffix(archive, ".hb") + ".json"
	if err := json.Unmarshal([]byte(sh.must("rclone cat store:backups/db/"+name)), &i); err != nil {
		t.Fatal(err)
	}
	if len(sizes) != 2 || i.Status != infofile.Complete || i.Bytes != sizes[archive] || !i.Options.Encrypted || !i.Options.Compressed {
		t.Fatalf("the objects are %v, and %s says %+v", sizes, name, i)
	}
	return archive
}

// upload starts hb-upload so slowly that something can happen meanwhile.
func upload(sh *shell) (wait func() (int, string)) {
	return sh.start("HB_THROTTLE=4MiB hb-upload")
}

// testServerDies: aws makes an object of what it got, which has no .json and is
// refused, and only pipefail tells.
func testServerDies(t *testing.T, db *host, sh *shell, s *store) {
	t.Helper()
	before, parts := objects(sh), s.parts(t)
	wait := upload(sh)
	await(t, "the first part", func() bool { return s.parts(t) > parts })
	if err := db.kill(); err != nil {
		t.Fatal(err)
	}
	if code, printed := wait(); code != 5 {
		t.Errorf("the server was killed: exit code %d\n%s", code, printed)
	}
	after := objects(sh)
	for name := range after {
		if _, ok := before[name]; ok {
			continue
		}
		if !strings.HasSuffix(name, ".hb") {
			t.Errorf("a backup that failed left %s", name)
		}
		sh.fails(6, "", "rclone cat store:backups/db/"+name+" | hb verify -i ~/key.txt")
	}
	if len(after) != len(before)+1 {
		t.Errorf("objects were %v, are %v", before, after)
	}
	sh.fails(3, "hb: ", "hb backup | rclone rcat store:backups/other/x")
	for _, client := range []string{"aws s3 cp - s3://backups/other/x", "rclone rcat store:backups/other/x"} {
		sh.fails(0, "hb: ", "set +o pipefail; hb backup | "+client+"; set -o pipefail")
	}
	db.resume()
}

// testUploadDies: hb sees it, no object appears, and parts are left in the store.
func testUploadDies(t *testing.T, db *host, sh *shell, s *store) {
	t.Helper()
	before, parts := objects(sh), s.parts(t)
	wait := upload(sh)
	await(t, "the first part", func() bool { return s.parts(t) > parts })
	pid, err := strconv.Atoi(strings.TrimSpace(db.read("/run/aws.pid")))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code, printed := wait(); code != 128+int(syscall.SIGKILL) {
		t.Errorf("aws was killed: exit code %d\n%s", code, printed)
	}
	var i infofile.Info
	if err := json.Unmarshal([]byte(db.read("/var/lib/hb-upload.json")), &i); err != nil || i.Status != infofile.Failed || *i.ExitCode != 9 {
		t.Errorf("%v: %+v", err, i)
	}
	if after := objects(sh); len(after) != len(before) {
		t.Errorf("objects were %v, are %v", before, after)
	}
}

// testCutObjects: an object that was cut, and a download that ends too early.
func testCutObjects(t *testing.T, sh *shell, archive string) {
	t.Helper()
	sh.must("rclone cat --count 20000000 store:backups/db/" + archive + " | rclone rcat store:backups/cut.hb")
	const download = "rclone cat store:backups/cut.hb | hb "
	sh.fails(6, "", download+"verify -i ~/key.txt")
	sh.fails(6, "", download+"extract -i ~/key.txt -C /srv/cut")
	sh.fails(6, "", download+"extract --apply -i ~/key.txt -C /srv/cut-too")
	sh.fails(6, "", "mkfifo pipe; aws s3 cp s3://backups/db/"+archive+" - >pipe & pid=$!; "+
		"{ head -c 1000000; kill -9 $pid; cat; } <pipe | hb extract -i ~/key.txt -C /srv/killed")
	for _, dir := range []string{"cut", "cut-too", "killed"} {
		sh.fails(8, "", "hb apply /srv/"+dir)
	}
}

// testParts: which parts the clients make of a stream of 17 MiB.
func testParts(t *testing.T, sh *shell, s *store) {
	t.Helper()
	for _, test := range []struct {
		client string
		parts  int
		says   string
	}{
		{"aws s3 cp --expected-size 83886080000 - s3://backups/other/a", 3, ""}, // 10,000 of 8 MiB
		{"aws s3 cp --expected-size 83886080001 - s3://backups/other/b", 2, ""}, // needs 16 MiB
		{"rclone rcat store:backups/other/c", 4, "chunk size 5Mi will have maximum file size of 48.828Gi"},
		{"rclone rcat --s3-chunk-size 64Mi store:backups/other/d", 1, "chunk size 64Mi will have maximum file size of 625Gi"},
	} {
		before := s.parts(t)
		said := sh.must("head -c 17M /dev/zero | " + test.client)
		if got := s.parts(t) - before; got != test.parts || !strings.Contains(said, test.says) {
			t.Errorf("%s: %d parts, want %d; %s", test.client, got, test.parts, said)
		}
	}
}
