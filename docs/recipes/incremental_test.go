package recipes

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
)

func init() {
	register("incremental.md", testIncremental, mysqldtest.MariaDB1011, mysqldtest.MySQL97)
}

func testIncremental(t *testing.T, r *recipe, root *mysqldtest.Root) {
	for _, p := range []string{"age-keygen", "flock", "jq"} {
		mysqldtest.Program(t, p)
	}
	db, vault := newHost(t, "db", root), newHost(t, "vault", root)
	fill(t, db.serve(mysqldtest.Options{}))
	db.write("/etc/hb.cnf", "[hb]\nuser=root\ncompress\n")
	sh := db.shell()
	w := &week{t: t, db: db, at: db, list: "/var/backups/mysql/*.hb", sums: map[string]map[string]string{}}

	r.run(sh, "What belongs to what")
	r.run(sh, "Every night")
	w.night(1)
	for n := range 6 {
		sh.must("hb-nightly")
		w.night(n + 2)
	}
	r.run(sh, "Every week")
	w.keeps(7, 7) // the full backup that was made is in the place of the last increment
	for n := range 2 {
		sh.must("hb-nightly")
		w.night(n + 2) // on what stands for the seventh night
	}
	w.restores()
	w.refuses(sh)

	sh.must("sed -i s/^keep=14/keep=3/ /usr/local/bin/hb-weekly; hb-weekly")
	w.keeps(3, 3) // the third-last night is the old full backup, the second an increment on it
	w.restores()
	sh.must("hb-nightly")
	w.night(2)
	testLostIncrement(t, w, sh)
	sh.must("sed -i s/^keep=3/keep=1/ /usr/local/bin/hb-weekly; hb-weekly")
	w.keeps(1, 1)
	if said := r.run(sh, "Restore"); strings.Count(said, "\n") < 2 {
		t.Errorf("the restore says %q", said)
	}
	restored(t, db, "/srv/restored", w.sums[w.newest()])
	testRestoredServer(t, w, sh)

	testIncrementsInStore(t, r, db, vault)
}

// week knows what each night must restore.
type week struct {
	t    *testing.T
	db   *host // of the server
	at   *host // where hb-chain is asked
	list string
	sums map[string]map[string]string // checksums of the tables, by the end of the backup
	made int
}

// chains asks hb-chain for the archives of each night.
func (w *week) chains() map[string][]string {
	w.t.Helper()
	chains := map[string][]string{}
	for line := range strings.Lines(w.at.shell().must("cd /var/lib; [ ! -e hb/manifests ] || cd hb/manifests; hb-chain 100 " + w.list)) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		chains[f[0]] = f[1:]
	}
	return chains
}

// files are all archives.
func (w *week) files() []string {
	w.t.Helper()
	files, err := filepath.Glob(w.db.path("/var/backups/mysql/*.hb"))
	if err != nil {
		w.t.Fatal(err)
	}
	for i, f := range files {
		files[i] = f[len(w.db.root):]
	}
	return files
}

// newest is the last night.
func (w *week) newest() string { return slices.Max(slices.Collect(maps.Keys(w.sums))) }

// night demands that there is one backup more, of so many archives. Then it changes the
// server's data, its tables too.
func (w *week) night(archives int) {
	w.t.Helper()
	chains := w.chains()
	newest := slices.Max(slices.Collect(maps.Keys(chains)))
	if w.sums[newest] != nil || len(chains[newest]) != archives {
		w.t.Fatalf("after a night the newest backup, of %s, has the archives %v, want %d", newest, chains[newest], archives)
	}
	w.sums[newest] = checksums(w.t, w.db.db())
	w.made++
	n := strconv.Itoa(w.made)
	w.db.db().Exec(w.t, "INSERT INTO shop.orders (note) VALUES (REPEAT('night"+n+"', 1000))",
		"UPDATE shop.orders SET note = 'night"+n+"' WHERE id % 97 = "+n,
		"DELETE FROM shop.old_orders WHERE id % 31 = "+n,
		"CREATE TABLE shop.night"+n+" ENGINE=InnoDB AS SELECT * FROM shop.orders LIMIT 100")
	switch w.made % 3 {
	case 0:
		w.db.db().Exec(w.t, "DROP TABLE shop.night"+n)
	case 1:
		w.db.db().Exec(w.t, "RENAME TABLE shop.night"+n+" TO shop.day"+n)
	}
	w.pause()
}

// pause has the next backup begin in another second.
func (w *week) pause() {
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
}

// keeps demands that only the newest nights are left, and so many archives.
func (w *week) keeps(nights, archives int) {
	w.t.Helper()
	want := slices.Sorted(maps.Keys(w.sums))
	for len(want) > nights {
		delete(w.sums, want[0])
		want = want[1:]
	}
	if got := w.files(); len(got) != archives {
		w.t.Fatalf("there are the archives %v, want %d", got, archives)
	}
	chains := w.chains()
	for _, night := range want {
		if chains[night] == nil {
			w.t.Errorf("the night %s is gone; there are %v", night, chains)
		}
	}
	if newest := w.newest(); len(chains[newest]) != 1 {
		w.t.Errorf("the newest night, %s, needs %v, want one full backup", newest, chains[newest])
	}
}

// restores restores every night that is left.
func (w *week) restores() {
	w.t.Helper()
	chains := w.chains()
	for night, sums := range w.sums {
		dir := "/srv/" + strings.ReplaceAll(night, ":", "") + "-" + strconv.Itoa(w.made)
		w.db.shell().must("hb extract --apply -C " + dir + " " + strings.Join(chains[night], " "))
		restored(w.t, w.db, dir, sums)
		w.db.shell().must("rm -r " + dir)
	}
}

// unchanged demands that a command fails and leaves all archives as they are.
func (w *week) unchanged(code int, says, command string) {
	w.t.Helper()
	before := w.files()
	w.db.shell().fails(code, says, command)
	if after := w.files(); !slices.Equal(before, after) {
		w.t.Errorf("%s: there were %v, and are %v", command, before, after)
	}
}

// refuses breaks each archive of the newest chain, upon which hb-weekly must end without
// deleting any, although there would be some to delete.
func (w *week) refuses(sh *shell) {
	w.t.Helper()
	sh.must("sed -i s/^keep=14/keep=1/ /usr/local/bin/hb-weekly")
	chain := w.chains()[w.newest()]
	for _, file := range chain {
		whole := w.db.read(file)
		flipped := []byte(whole)
		flipped[len(flipped)/2] ^= 1
		w.db.write(file, string(flipped))
		w.unchanged(7, file, "hb-weekly")
		w.db.write(file, whole)
	}
	for i, code := range map[int]int{1: 11, 2: 6} { // what follows the first lacks it
		whole := w.db.read(chain[i])
		w.db.write(chain[i], whole[:len(whole)-1])
		w.unchanged(code, "cannot read "+chain[i], "hb-weekly")
		w.db.write(chain[i], whole)
	}
	sh.must("mv " + chain[1] + " /srv/lost")
	w.unchanged(11, "hb: ", "hb verify "+chain[0]+" "+chain[2])
	w.unchanged(11, "lacks the archive", "hb-weekly")
	sh.must("mv /srv/lost " + chain[1])
	w.unchanged(11, "hb: ", "hb verify "+chain[0]+" "+chain[2]+" "+chain[1])
	sh.must("sed -i s/^keep=1$/keep=14/ /usr/local/bin/hb-weekly")
}

// testLostIncrement: without an archive of the chain, or with a damaged one, the next
// night is a full backup, and nothing is deleted before the chain is whole again.
func testLostIncrement(t *testing.T, w *week, sh *shell) {
	t.Helper()
	sh.must("hb-nightly")
	w.night(3)
	chain := w.chains()[w.newest()]
	sh.must("mv " + chain[1] + " /srv/lost")
	sh.fails(11, "lacks the archive", "hb-nightly")
	sh.fails(11, "hb: ", "hb verify "+chain[0]+" "+chain[2])
	w.unchanged(11, "lacks the archive", "hb-weekly")
	sh.must("mv /srv/lost " + chain[1])
	w.night(1)

	// The base is damaged where only hb verify looks.
	base := w.chains()[w.newest()][0]
	whole := w.db.read(base)
	flipped := []byte(whole)
	flipped[len(flipped)/2] ^= 1
	w.db.write(base, string(flipped))
	sh.fails(7, base, "hb-nightly")
	w.db.write(base, whole)
	w.night(1)
}

// testRestoredServer: a server that continues from the night before the newest does not
// fit that.
func testRestoredServer(t *testing.T, w *week, sh *shell) {
	t.Helper()
	before := w.newest()
	sh.must("hb-nightly")
	w.night(2)
	sh.must("systemctl stop mysql; mv /var/lib/mysql /srv/old; hb extract --apply -C /var/lib/mysql " + w.chains()[before][0])
	w.db.resume()
	hasTables(t, w.db.db(), w.sums[before])
	w.pause()
	sh.fails(11, "hb: ", "hb-nightly")
	w.night(1)
	sh.must("hb-nightly")
	w.night(2)
}

// testIncrementsInStore has the server's host upload increments, of which it can read
// none, and another host merge and delete them.
func testIncrementsInStore(t *testing.T, r *recipe, db, vault *host) {
	t.Helper()
	s := newStore(t, db, vault)
	s.secure(t, vault)
	sh, far := db.shell(), vault.shell()
	far.must("mkdir /etc/hb && age-keygen -o /etc/hb/key.txt && age-keygen -y /etc/hb/key.txt >/etc/hb/recipients.txt")
	db.write("/etc/hb/recipients.txt", vault.read("/etc/hb/recipients.txt"))
	vault.write("/usr/local/bin/hb-chain", db.read("/usr/local/bin/hb-chain"))
	w := &week{t: t, db: db, at: vault, list: "*.manifest", sums: map[string]map[string]string{}, made: 30}
	const sync = "mkdir -p /var/lib/hb/manifests; cd /var/lib/hb/manifests; aws s3 sync --delete --exclude '*' --include '*.manifest' s3://backups/db .; cd"
	upload := func(archives int) {
		t.Helper()
		sh.must("hb-upload-nightly")
		far.must(sync)
		w.night(archives)
	}

	r.run(sh, "In an object store: the server")
	far.must(sync)
	w.night(1)
	upload(2)
	for name := range objects(sh) {
		if strings.HasSuffix(name, ".hb") {
			sh.fails(10, "", "rclone cat store:backups/db/"+name+" | hb verify")
		}
	}
	r.run(far, "In an object store: where the key is")
	w.stored(2, 2)
	upload(2)
	upload(3)
	w.refusesStored(far)
	far.must("sed -i s/^keep=14/keep=2/ /usr/local/bin/hb-store-weekly; hb-store-weekly")
	w.stored(2, 3)

	// What hb does if the server does not fit the base: testRestoredServer.
	sh.must("rm /usr/local/bin/hb")
	db.write("/usr/local/bin/hb", "#!/bin/bash\ncase $* in *--since*) echo no base >&2; exit 11 ;; esac\nexec "+hb+" \"$@\"\n")
	sh.fails(11, "no base", "hb-upload-nightly")
	far.must(sync)
	w.night(1)
	sh.must("ln -sf " + hb + " /usr/local/bin/hb")
	upload(2)

	r.run(far, "In an object store: restore")
	restored(t, vault, "/srv/restored", w.sums[w.newest()])
}

// stored is keeps for the store.
func (w *week) stored(nights, archives int) {
	w.t.Helper()
	want := slices.Sorted(maps.Keys(w.sums))
	for len(want) > nights {
		delete(w.sums, want[0])
		want = want[1:]
	}
	sizes := objects(w.at.shell())
	for name := range sizes {
		plain, isManifest := strings.CutSuffix(name, ".manifest")
		if _, ok := sizes[plain+".hb"]; isManifest && !ok {
			w.t.Errorf("%s has no archive", name)
		}
	}
	if len(sizes) != 2*archives {
		w.t.Errorf("the objects are %v, want %d archives with their manifests", sizes, archives)
	}
	chains := w.chains()
	for _, night := range want {
		if chains[night] == nil {
			w.t.Errorf("the night %s is gone; there are %v", night, chains)
		}
	}
	if newest := w.newest(); len(chains[newest]) != 1 {
		w.t.Errorf("the newest night, %s, needs %v, want one full backup", newest, chains[newest])
	}
}

// refusesStored breaks objects of the newest chain.
func (w *week) refusesStored(sh *shell) {
	w.t.Helper()
	sh.must("sed -i s/^keep=14/keep=1/ /usr/local/bin/hb-store-weekly")
	increment := w.chains()[w.newest()][1]
	whole := objects(sh)
	for _, broken := range []struct {
		code      int
		says, how string
	}{
		{6, "hb: ", "rclone cat --count 100000 /srv/kept.hb | rclone rcat NAME.hb"},
		{0, "hb: ", "rclone deletefile NAME.hb"},
		{11, "lacks the archive", "rclone deletefile NAME.manifest"},
	} {
		name := "store:backups/db/" + strings.TrimSuffix(increment, ".manifest")
		sh.must("rclone copyto " + name + ".hb /srv/kept.hb; rclone copyto " + name + ".manifest /srv/kept.manifest")
		sh.must(strings.ReplaceAll(broken.how, "NAME", name))
		code, said := sh.try("hb-store-weekly")
		if code == 0 || broken.code != 0 && code != broken.code || !strings.Contains(said, broken.says) {
			w.t.Errorf("after %s hb-store-weekly ends with %d, want %d:\n%s", broken.how, code, broken.code, said)
		}
		sh.must("rclone copyto /srv/kept.hb " + name + ".hb; rclone copyto /srv/kept.manifest " + name + ".manifest")
		after := objects(sh)
		maps.DeleteFunc(after, func(object string, _ int64) bool {
			_, was := whole[object]
			return !was && strings.HasSuffix(object, "-full.hb")
		})
		if !maps.Equal(whole, after) {
			w.t.Errorf("after %s there are %v, were %v", broken.how, after, whole)
		}
	}
	sh.must("sed -i s/^keep=1$/keep=14/ /usr/local/bin/hb-store-weekly")
}
