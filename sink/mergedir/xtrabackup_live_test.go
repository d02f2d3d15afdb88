package mergedir_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"hb/sink/apply"
	"hb/sink/apply/fixup"
	"hb/sink/backupdir"
	"hb/sink/extract"
	"hb/sink/merge"
	"hb/sink/mergedir"
	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/stream/disk"
	"hb/stream/disk/disktest"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

// xbBetween is what happens between a backup and the next, by their numbers.
var xbBetween = [][]string{
	{
		"CREATE DATABASE d", "CREATE DATABASE e", "CREATE TABLE d.ten (n INT PRIMARY KEY) ENGINE=InnoDB", "INSERT INTO d.ten VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)",
		"CREATE TABLE d.a (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(200), KEY (v)) ENGINE=InnoDB",
		"INSERT INTO d.a (v) SELECT SHA2(a.n + 10 * b.n + 100 * c.n + 1000 * e.n, 512) FROM d.ten a, d.ten b, d.ten c, d.ten e",
		"CREATE TABLE d.zip LIKE d.a", "ALTER TABLE d.zip ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4", "INSERT INTO d.zip SELECT * FROM d.a",
		"CREATE TABLE d.gone LIKE d.a", "INSERT INTO d.gone SELECT * FROM d.a WHERE id < 100",
		"CREATE TABLE d.late LIKE d.gone", "INSERT INTO d.late SELECT * FROM d.gone",
		"CREATE TABLE d.cut LIKE d.a", "INSERT INTO d.cut SELECT * FROM d.a",
		"CREATE TABLE d.x LIKE d.a", "INSERT INTO d.x SELECT * FROM d.a WHERE id % 2",
		"CREATE TABLE d.y LIKE d.a", "INSERT INTO d.y SELECT * FROM d.a WHERE id % 3",
		"CREATE TABLE d.my (id INT PRIMARY KEY, v VARCHAR(200)) ENGINE=MyISAM", "INSERT INTO d.my SELECT * FROM d.a",
		"CREATE TABLE d.bygone (id INT PRIMARY KEY) ENGINE=MyISAM", "CREATE TABLE e.t (id INT PRIMARY KEY) ENGINE=InnoDB",
		"CREATE TABLE d.parts (id INT PRIMARY KEY) ENGINE=InnoDB PARTITION BY HASH (id) PARTITIONS 3", "INSERT INTO d.parts SELECT id FROM d.a",
	},
	{
		"UPDATE d.a SET v = 'changed' WHERE id % 100 = 0", "DROP TABLE d.gone, d.bygone", "TRUNCATE d.cut", "INSERT INTO d.cut SELECT * FROM d.a WHERE id < 500",
		"RENAME TABLE d.x TO d.z, d.y TO d.x, d.z TO d.y", "UPDATE d.x SET v = 'x' WHERE id % 100 = 1", "DELETE FROM d.zip WHERE id % 3 = 0",
		"CREATE TABLE d.fresh LIKE d.a", "INSERT INTO d.fresh SELECT * FROM d.a", "UPDATE d.my SET v = 'changed'", "DROP DATABASE e",
		"DELETE FROM d.parts WHERE id % 4 = 0", "ALTER TABLE d.a ADD COLUMN w INT DEFAULT 7",
	},
	{
		"UPDATE d.a SET v = 'again' WHERE id % 200 = 0", "RENAME TABLE d.fresh TO d.stale", "DROP TABLE d.late", "ALTER TABLE d.cut ADD KEY (id, v)",
		"CREATE DATABASE f", "CREATE TABLE f.t (id INT PRIMARY KEY) ENGINE=InnoDB", "INSERT INTO f.t VALUES (1)",
	},
}

// TestMergeXtraBackup puts increments as XtraBackup writes them, by what is known of its
// files, onto a full backup of MySQL. They are made of full backups of the same server. A
// server starts on what comes out, and has all rows.
func TestMergeXtraBackup(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MySQL, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		dir := t.TempDir()
		at := func(i int) string { return filepath.Join(dir, fmt.Sprint(i)) }
		var before *xbBackup
		for i, statements := range xbBetween {
			s.Exec(t, statements...)
			if i == 1 {
				s.WriteOut(t)
			}
			b := xbFull(t, s, at(i))
			if before != nil {
				b.makeIncrement(t, before)
			}
			before = b
		}
		want := sums(t, s)
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		xbReduced(t, at(1), at(2))
		base := filepath.Join(dir, "base")
		mustCopy(t, base, at(0))
		refuse(t, base, at(1), as[*backupdir.NotBackupError], "not applied yet")
		mustApply(t, base)
		refuse(t, base, at(2), as[*merge.MismatchError], "an increment between them is missing")
		refuseXtraBackup(t, root, base, at(1))
		killMerge(t, base, at(1))
		for i := 1; i < len(xbBetween); i++ {
			r, err := mergedir.Run(t.Context(), base, at(i), mergedir.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v", *r)
			if i == 1 && (len(r.Dropped) < 3 || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "XtraBackup") || r.Pages == 0) {
				t.Errorf("%+v", *r)
			}
			if i == 2 && !slices.Equal(r.Dropped, []string{"d/late.ibd"}) {
				t.Errorf("dropped: %q", r.Dropped)
			}
			mustApply(t, base)
			if i == 1 { // the next one begins and ends at one checkpoint, where the server made none between
				refuse(t, base, at(i), as[*merge.MismatchError], "it continues from LSN")
			}
			asApplyLogOnly(t, base, at(i))
		}
		mustApply(t, base) // as it is after --apply-log-only, the log is applied again
		c := mysqldtest.StartOn(t, root, base, mysqldtest.Options{})
		got := sums(t, c)
		for name, sum := range want {
			if got[name] != sum {
				t.Errorf("%s: %s, want %s", name, got[name], sum)
			}
			if check := c.Rows(t, "CHECK TABLE "+name+" EXTENDED"); check[len(check)-1][3] != "OK" {
				t.Errorf("%v", check)
			}
		}
		if len(got) != len(want) || len(want) < 10 {
			t.Errorf("tables %v, want %v", got, want)
		}
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
		refuse(t, base, at(2), as[*backupdir.NotBackupError], "has run on it")
	})
}

func mustCopy(t *testing.T, to, from string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(to), mysqldtest.CopyTree(to, from)); err != nil {
		t.Fatal(err)
	}
}

// xbBackup is a directory as XtraBackup leaves one.
type xbBackup struct {
	dir    string
	start  innodb.LSN // where its redo log begins
	points *metadata.Checkpoints
	pages  map[string][]byte // its tablespaces, by name
}

// tablespaceFile are the files that an increment has pages of.
var tablespaceFile = regexp.MustCompile(`\.ib[du]$|(^|/)undo_?\d+$|^ibdata\d+$`)

// xbFull makes a full backup.
func xbFull(t *testing.T, s *mysqldtest.Server, dir string) *xbBackup {
	t.Helper()
	var archive bytes.Buffer
	srv := client.Open(t, s)
	r, err := source.Run(t.Context(), srv, &archive, source.Options{Parallel: 2, Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test"})
	if err := errors.Join(err, srv.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := extract.Run(t.Context(), &archive, dir, extract.Options{}); err != nil {
		t.Fatal(err)
	}
	settleNames(t, dir)
	b := &xbBackup{dir: dir, start: r.Manifest.FromLSN, pages: make(map[string][]byte)}
	for _, name := range []string{metadata.ArchiveName, metadata.IndexName, metadata.ManifestName} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range disktest.ReadTree(t, dir) {
		if tablespaceFile.MatchString(name) {
			b.pages[name] = []byte(content)
		}
	}
	if b.points, _, err = metadata.ReadCheckpoints(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return b
}

// settleNames carries out hb's own fix-up files, which XtraBackup does not have.
func settleNames(t *testing.T, dir string) {
	t.Helper()
	root, err := disk.OS.OpenDir(dir)
	if err == nil {
		err = errors.Join(fixup.Anywhere(root), root.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// makeIncrement leaves of the tablespaces what changed since another backup: pages whose LSN
// is its to_lsn or later; of the data dictionary, since its redo log begins.
func (b *xbBackup) makeIncrement(t *testing.T, since *xbBackup) {
	t.Helper()
	for name, content := range b.pages {
		from := since.points.ToLSN
		if name == "mysql.ibd" {
			from = since.start
		}
		space, err := innodb.ParseSpace(content)
		if err != nil && (strings.HasPrefix(name, "ibdata") || !innodb.AllZero(content)) {
			t.Fatalf("%s: %v", name, err)
		}
		zip := 0
		if space.Zip() {
			zip = space.Physical
		}
		meta := fmt.Sprintf("page_size = %d\nzip_size = %d\nspace_id = %d\nspace_flags = %d\n", space.Physical, zip, space.ID, space.Flags)
		file := filepath.Join(b.dir, name)
		if err := errors.Join(os.Remove(file), os.WriteFile(file+".meta", []byte(meta), 0o640), os.WriteFile(file+".delta", xbDelta(content, space.Physical, from), 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	text := fmt.Sprintf("backup_type = incremental\nfrom_lsn = %d\nto_lsn = %d\nlast_lsn = %d\nflushed_lsn = 0\nredo_memory = 0\nredo_frames = 0\n", since.points.ToLSN, b.points.ToLSN, b.points.LastLSN)
	if err := os.WriteFile(filepath.Join(b.dir, "xtrabackup_checkpoints"), []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

// xbDelta is a .delta file.
func xbDelta(content []byte, size int, from innodb.LSN) (out []byte) {
	var changed []int
	for no := range len(content) / size {
		if lsn := binary.BigEndian.Uint64(content[no*size+16:]); lsn >= uint64(from) {
			changed = append(changed, no)
		}
	}
	most := size/4 - 1
	for {
		n := min(most, len(changed))
		index := make([]byte, size)
		copy(index, "xtra")
		if n == len(changed) {
			copy(index, "XTRA")
		}
		for i, no := range changed[:n] {
			binary.BigEndian.PutUint32(index[4+4*i:], uint32(no))
		}
		if n < most {
			binary.BigEndian.PutUint32(index[4+4*n:], 0xFFFFFFFF)
		}
		out = append(out, index...)
		for _, no := range changed[:n] {
			out = append(out, content[no*size:][:size]...)
		}
		if changed = changed[n:]; len(changed) == 0 {
			return out
		}
	}
}

// metaID is the id in a .meta file.
func metaID(t *testing.T, file string) (id uint32) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "space_id = ")
	if _, err := fmt.Sscan(after, &id); err != nil {
		t.Fatal(err)
	}
	return id
}

// xbReduced makes of an increment, and the one before it, one with --lock-ddl=REDUCED: a table
// was renamed after it was copied, one was dropped, and one was copied once more.
func xbReduced(t *testing.T, before, dir string) {
	t.Helper()
	move := func(from, to string) error {
		return errors.Join(os.Rename(dir+"/d/"+from+".delta", dir+"/d/"+to+".delta"), os.Rename(dir+"/d/"+from+".meta", dir+"/d/"+to+".meta"))
	}
	none := xbDelta(nil, 16<<10, 0)
	late, err := os.ReadFile(before + "/d/late.ibd.meta")
	err = errors.Join(err,
		os.WriteFile(fmt.Sprintf("%s/d/%d.ren", dir, metaID(t, dir+"/d/stale.ibd.meta")), []byte("d/stale.ibd"), 0o640), move("stale.ibd", "fresh.ibd"),
		os.WriteFile(fmt.Sprintf("%s/d/%d.ibd.del", dir, metaID(t, before+"/d/late.ibd.meta")), nil, 0o640),
		os.WriteFile(dir+"/d/late.ibd.meta", late, 0o640), os.WriteFile(dir+"/d/late.ibd.delta", none, 0o640))
	cut, err2 := os.ReadFile(dir + "/d/cut.ibd.meta")
	err = errors.Join(err, err2, move("cut.ibd", "cut.ibd.new"),
		os.WriteFile(dir+"/d/cut.ibd.meta", cut, 0o640), os.WriteFile(dir+"/d/cut.ibd.delta", none, 0o640))
	if err != nil {
		t.Fatal(err)
	}
}

// asApplyLogOnly makes of a directory that hb applied, after it had put an increment onto it,
// what XtraBackup's --apply-log-only leaves: backup_type log-applied, the redo log of the
// increment, and none that a server finds.
func asApplyLogOnly(t *testing.T, dir, inc string) {
	t.Helper()
	file := filepath.Join(dir, "xtrabackup_checkpoints")
	text, err := os.ReadFile(file)
	if err != nil || !bytes.Contains(text, []byte("full-prepared")) {
		t.Fatalf("%s, %v", text, err)
	}
	err = errors.Join(mysqldtest.CopyFile(filepath.Join(dir, "xtrabackup_logfile"), filepath.Join(inc, "xtrabackup_logfile")),
		os.WriteFile(file, bytes.Replace(text, []byte("full-prepared"), []byte("log-applied"), 1), 0o640),
		os.Remove(filepath.Join(dir, backupdir.AppliedName)), os.RemoveAll(filepath.Join(dir, "#innodb_redo")))
	if err != nil {
		t.Fatal(err)
	}
}

// refuseXtraBackup: bases that had transactions rolled back, and increments that lack
// something or are another server's.
func refuseXtraBackup(t *testing.T, root *mysqldtest.Root, base, inc string) {
	t.Helper()
	other := filepath.Join(t.TempDir(), "base")
	mustCopy(t, other, base)
	if err := os.Remove(filepath.Join(other, backupdir.AppliedName)); err != nil {
		t.Fatal(err)
	}
	refuse(t, other, inc, as[*backupdir.NotBackupError], "without --apply-log-only")
	mustCopy(t, other, base)
	s := mysqldtest.StartOn(t, root, other, mysqldtest.Options{})
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	refuse(t, other, inc, as[*backupdir.NotBackupError], "a server has run on it")
	if err := os.Remove(filepath.Join(other, "auto.cnf")); err != nil {
		t.Fatal(err)
	}
	refuse(t, other, inc, as[*backupdir.NotBackupError], "a server has run on it")

	mustCopy(t, other, base)
	asApplyLogOnly(t, other, inc)
	if err := os.WriteFile(filepath.Join(other, "auto.cnf"), nil, 0o640); err != nil {
		t.Fatal(err)
	}
	refuse(t, other, inc, as[*backupdir.NotBackupError], "a server has run on it")

	damage := func(err error) bool { return as[*backupdir.DamageError](err) || as[*backupdir.MissingError](err) }
	mismatch := as[*merge.MismatchError]
	remove := func(names ...string) func(string) error {
		return func(dir string) (err error) {
			for _, name := range names {
				err = errors.Join(err, os.Remove(filepath.Join(dir, name+".delta")), os.Remove(filepath.Join(dir, name+".meta")))
			}
			return err
		}
	}
	cases := map[string]struct {
		do      func(dir string) error
		refused func(error) bool
	}{
		"a meta":                {func(dir string) error { return os.Remove(dir + "/d/a.ibd.meta") }, damage},
		"only a delta":          {func(dir string) error { return os.Remove(dir + "/d/a.ibd.delta") }, damage},
		"the system tablespace": {remove("ibdata1"), damage},
		"the redo log":          {func(dir string) error { return os.Remove(dir + "/xtrabackup_logfile") }, damage},
		"a page of a delta":     {func(dir string) error { return shorten(dir + "/d/a.ibd.delta") }, damage},
		"a damaged copy":        {func(dir string) error { return os.WriteFile(dir+"/d/a.ibd.crpt", nil, 0o600) }, damage},
		"a rename of nothing":   {func(dir string) error { return os.WriteFile(dir+"/d/99999.ren", []byte("d/b.ibd"), 0o600) }, damage},
		"an odd fix-up file":    {func(dir string) error { return os.WriteFile(dir+"/d/a.del", nil, 0o600) }, damage},
		"a rename onto a table": {func(dir string) error {
			return os.WriteFile(fmt.Sprintf("%s/d/%d.ren", dir, metaID(t, dir+"/d/a.ibd.meta")), []byte("d/cut.ibd"), 0o600)
		}, damage},
		"another server's": {func(dir string) error {
			file := filepath.Join(dir, "backup-my.cnf")
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			line := regexp.MustCompile(`server_uuid=.*`)
			if !line.Match(text) {
				return fmt.Errorf("%s states no server", text)
			}
			return os.WriteFile(file, line.ReplaceAll(text, []byte("server_uuid=67ae1c17-ecd2-11f1-ae50-02fc00000001")), 0o600)
		}, mismatch},
		"MariaDB's": {func(dir string) error {
			file := filepath.Join(dir, "xtrabackup_info")
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			return os.WriteFile(file, regexp.MustCompile(`server_version = .*`).ReplaceAll(text, []byte("server_version = 10.11.18-MariaDB")), 0o600)
		}, mismatch},
	}
	if root.AtLeast(8, 0) {
		cases["the data dictionary"] = struct {
			do      func(string) error
			refused func(error) bool
		}{remove("mysql.ibd"), damage}
		cases["an undo tablespace"] = struct {
			do      func(string) error
			refused func(error) bool
		}{remove("undo_001"), damage}
	} else {
		cases["a table's delta"] = struct {
			do      func(string) error
			refused func(error) bool
		}{remove("d/a.ibd"), damage}
	}
	for what, c := range cases {
		dir := filepath.Join(t.TempDir(), "inc")
		if err := errors.Join(mysqldtest.CopyTree(dir, inc), c.do(dir)); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		refuse(t, base, dir, c.refused, "")
	}
}

// killMerge kills a merge at its changes, of which it tries some, in the long form many: what
// is left is as it was, or refused, or merged.
func killMerge(t *testing.T, base, inc string) {
	t.Helper()
	dir := filepath.Join(disktest.Memory(t), "base")
	fresh := func() { mustCopy(t, dir, base) }
	fresh()
	before := disktest.ReadTree(t, dir)
	f := disktest.NewFaults(dir)
	if _, err := mergedir.Run(t.Context(), dir, inc, mergedir.Options{System: f}); err != nil {
		t.Fatal(err)
	}
	want := disktest.ReadTree(t, dir)
	points := slices.DeleteFunc(slices.Clone(f.Ops()), func(op disktest.Op) bool { return !op.Kind.Changes() })
	n := 4
	if mysqldtest.Long() {
		n = 200
	}
	stride := max(1, len(points)/n)
	var untouched, marked, merged int
	tried := slices.Collect(func(yield func(disktest.Op) bool) {
		for i, op := range points {
			// The first and the last changes, which set the mark and take it away, always.
			if (i < 4 || i >= len(points)-3 || i%stride == rand.IntN(stride)) && !yield(op) {
				return
			}
		}
	})
	for _, op := range tried {
		fresh()
		f := disktest.NewFaults(dir)
		f.Fail(op, syscall.EIO, true)
		if _, err := mergedir.Run(t.Context(), dir, inc, mergedir.Options{System: f}); err == nil {
			t.Errorf("killed at %v: no error", op)
		}
		left := disktest.ReadTree(t, dir)
		switch _, mark := left[backupdir.MarkerName]; {
		case mark:
			marked++
			refuse(t, dir, inc, as[*backupdir.NotBackupError], "did not finish")
			if _, err := apply.Run(t.Context(), dir, apply.Options{}); !as[*backupdir.NotBackupError](err) {
				t.Errorf("killed at %v, apply: %v", op, err)
			}
			for _, name := range []string{backupdir.MarkerName, "ibdata1" + backupdir.ExtHeld, "ibdata1" + backupdir.ExtTemporary} {
				delete(left, name)
			}
			st, err := os.Lstat(filepath.Join(dir, "ibdata1"))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			if err == nil && st.Mode().IsRegular() && !maps.Equal(left, before) && !maps.Equal(left, want) {
				t.Errorf("killed at %v: a server could start on it", op)
			}
		case maps.Equal(left, before):
			untouched++
		case maps.Equal(left, want):
			merged++
		default:
			t.Errorf("killed at %v: half a merge that has no mark", op)
		}
	}
	t.Logf("killed at %d of %d changes: %d times it is as it was, %d times refused, %d times merged", len(tried), len(points), untouched, marked, merged)
	if marked == 0 {
		t.Error("no kill left anything to refuse")
	}
}
