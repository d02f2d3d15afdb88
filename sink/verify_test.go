package sink

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/replay/mariadb"
	"hb/sink/verify"
	"hb/stream/disk/disktest"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/metadata"
	"hb/xbstream/xbtest"
	"hb/xbstream/xbtest/raw"
)

// archive is the directory as an archive: the header first and the manifest
// last, if it has them, and all files with their right sums. It stays the
// backup's: the next call returns it again if no file has changed.
func (b *fakeBackup) archive() []byte {
	b.t.Helper()
	files := disktest.ReadTree(b.t, b.dir)
	if b.archived.archive == nil || !maps.Equal(files, b.archived.files) {
		b.archived.files = maps.Clone(files)
		b.archived.archive = archiveOf(b.t, files)
	}
	return b.archived.archive
}

func archiveOf(t testing.TB, files map[string]string) []byte {
	t.Helper()
	size := 0
	for _, content := range files {
		size += len(content)
	}
	a := xbtest.Begin()
	a.Out.Grow(size + size/50 + 64<<10) // with the heads of its chunks
	names := slices.Sorted(maps.Keys(files))
	place := func(name string) int {
		return map[string]int{metadata.ArchiveName: -1, metadata.ManifestName: 1}[name]
	}
	slices.SortStableFunc(names, func(a, b string) int { return place(a) - place(b) })
	var part [100_000]byte
	for _, name := range names {
		if name == metadata.ManifestName {
			files[name] = withHeads(files[name], a.Heads())
		}
		f := a.Create(name)
		// Pieces that fit no page, so that pages are cut between them.
		for in := strings.NewReader(files[name]); in.Len() > 0; {
			n, _ := in.Read(part[:])
			a.Write(f, part[:n])
		}
		a.End(f)
	}
	return ended(t, a.Close)
}

// withHeads is a manifest for an archive whose chunks' heads have that sum.
func withHeads(manifest string, heads metadata.CRC32) string {
	return editManifest(manifest, func(m *metadata.Manifest) { m.Heads = heads })
}

// editManifest changes a manifest's first line. One that cannot be read stays as
// it is.
func editManifest(manifest string, change func(m *metadata.Manifest)) string {
	var files []metadata.File
	p := metadata.NewManifestParser(nil, func(f metadata.File) error { files = append(files, f); return nil })
	_, err := p.Write([]byte(manifest))
	if errors.Join(err, p.Close()) != nil {
		return manifest
	}
	m := *p.Manifest()
	change(&m)
	var out bytes.Buffer
	w, err := metadata.NewManifestWriter(&out, m)
	if err != nil {
		return manifest
	}
	for _, f := range files {
		err = errors.Join(err, w.Add(f))
	}
	if errors.Join(err, w.Close()) != nil {
		return manifest
	}
	return out.String()
}

// verifyAll verifies the backup in every way, and returns what each found.
func (b *fakeBackup) verifyAll(replay bool) map[string]error {
	b.t.Helper()
	b.seal()
	archive := b.archive()
	o := verify.Options{Replay: replay, Memory: 8 << 20, Parallel: 2, Tmpdir: b.t.TempDir()}
	found := make(map[string]error)
	_, found["pipe"] = verify.Archive(b.t.Context(), struct{ io.Reader }{bytes.NewReader(archive)}, o)
	_, found["directory"] = verify.Directory(b.t.Context(), b.dir, o)
	o.At = bytes.NewReader(archive)
	_, found["file"] = verify.Archive(b.t.Context(), bytes.NewReader(archive), o)
	return found
}

// rehearse verifies a backup that was not begun to be recovered; checked is
// called with what came out of the recovery itself: a rehearsal must tell the
// same.
func (b *fakeBackup) rehearse() (checked func(r *apply.Result, err error)) {
	b.t.Helper()
	root := disktest.Open(b.t, b.dir)
	for _, mark := range []string{backupdir.ApplyingName, backupdir.MarkerName} {
		if found, err := backupdir.Exists(root, mark); err != nil || found {
			return func(*apply.Result, error) {}
		}
	}
	before := disktest.ReadTree(b.t, b.dir)
	found := b.verifyAll(true)
	if !maps.Equal(before, disktest.ReadTree(b.t, b.dir)) {
		b.t.Error("verifying changed the directory")
	}
	return func(r *apply.Result, err error) {
		b.t.Helper()
		if r != nil && r.AlreadyApplied || err != nil && strings.Contains(err.Error(), "in use") {
			delete(found, "pipe")
			delete(found, "file")
		}
		for way, rehearsed := range found {
			if (rehearsed == nil) != (err == nil) && !(b.sick && err == nil) {
				b.t.Errorf("recovery ends with %v, but its rehearsal with %s: %v", err, way, rehearsed)
			}
			if b.sick && rehearsed == nil {
				b.t.Errorf("verifying with %s finds nothing wrong", way)
			}
		}
	}
}

// own makes it a backup of hb's.
func (b *fakeBackup) own() *fakeBackup {
	h := xbtest.Header(fakePage, fakeStart)
	h.RedoFormat = b.format.String()
	text, err := h.Marshal()
	if err != nil {
		b.t.Fatal(err)
	}
	b.write(metadata.ArchiveName, text)
	return b
}

// edit changes a file.
func (b *fakeBackup) edit(name string, f func(content []byte) []byte) { b.write(name, f(b.read(name))) }

// fakeOwn makes a whole backup of each family: of MariaDB with an undo
// tablespace, of MySQL 5.7 with a second system file and a general tablespace.
func fakeOwn(t *testing.T, family string) *fakeBackup {
	if family == metadata.FlavorMariaDB {
		b := newFakeBackup(t, mariadbredo.Format108, fullFlags).own()
		b.table("undo001", 1, 6, 40000)
		b.write("db/t.frm", []byte("a definition"))
		b.mtr(file(0xB0, 7, "./db/t.ibd"), write50(7, 3, "first"))
		for range 100 {
			b.mtr(write50(7, 3, "more"), write50(0, 4, "system"))
		}
		return b.finish()
	}
	m := newFakeMySQL(t, mysqlredo.Format57).own()
	m.table("general.ibd", 9, 6, 40000)
	m.write("db/t.frm", []byte("a definition"))
	m.mtr(put(7, 3, "first"))
	for range 100 {
		m.mtr(put(7, 3, "more"), put(0, 4, "system"))
	}
	return m.finish().fakeBackup
}

func flipAt(at int) func([]byte) []byte {
	return func(content []byte) []byte {
		content[at] ^= 1
		return content
	}
}

// swapPages swaps two pages.
func swapPages(i, j int) func([]byte) []byte {
	return func(content []byte) []byte {
		a, b := content[i*fakePage:(i+1)*fakePage], content[j*fakePage:(j+1)*fakePage]
		c := bytes.Clone(a)
		copy(a, b)
		copy(b, c)
		return content
	}
}

// TestVerifyDamage: what only the pages, or the redo log, can tell; sums and
// manifest are right.
func TestVerifyDamage(t *testing.T) {
	const maria, my = metadata.FlavorMariaDB, metadata.FlavorMySQL
	for name, tc := range map[string]struct {
		only string // the family
		make func(b *fakeBackup)
		want string // "": nothing is wrong
	}{
		"nothing":           {"", func(b *fakeBackup) {}, ""},
		"flipped bit":       {"", func(b *fakeBackup) { b.edit("db/t.ibd", flipAt(2*fakePage+5000)) }, "db/t.ibd: page 2: wrong checksum"},
		"flipped in page 0": {"", func(b *fakeBackup) { b.edit("db/t.ibd", flipAt(5000)) }, "db/t.ibd: page 0: wrong checksum"},
		"swapped pages":     {"", func(b *fakeBackup) { b.edit("db/t.ibd", swapPages(2, 4)) }, "db/t.ibd: page 2: says it is page 4"},
		"another table's": {"", func(b *fakeBackup) {
			b.edit("db/t.ibd", func(c []byte) []byte { return append(c[:5*fakePage], b.page(8, 5, 6, 40000)...) })
		}, "db/t.ibd: page 5: says it is of tablespace 8"},
		"half a page": {"", func(b *fakeBackup) { b.edit("db/t.ibd", func(c []byte) []byte { return c[:5*fakePage+7000] }) }, "db/t.ibd: page 5: the file ends within it"},
		"from the future": {"", func(b *fakeBackup) {
			b.edit("db/t.ibd", func(c []byte) []byte { return append(c[:5*fakePage], b.page(7, 5, 6, b.end+1)...) })
		}, "db/t.ibd: page 5: is of LSN"},
		"no page 0":          {"", func(b *fakeBackup) { b.edit("db/t.ibd", func(c []byte) []byte { clear(c[:fakePage]); return c }) }, "db/t.ibd: page 0 was never written, but others were"},
		"no page":            {"", func(b *fakeBackup) { b.edit("db/t.ibd", func(c []byte) []byte { clear(c); return c }) }, "the backup is incomplete"},
		"stray empty table":  {"", func(b *fakeBackup) { b.write("db/u.ibd", make([]byte, 4*fakePage)) }, "db/u.ibd: page 0 is neither in the file nor in the redo log"},
		"missing table":      {"", func(b *fakeBackup) { os.Remove(b.dir + "/db/t.ibd") }, "the backup is incomplete"},
		"one id twice":       {"", func(b *fakeBackup) { b.table("db/u.ibd", 7, 6, 40000) }, "are both tablespace 7"},
		"system tablespace":  {"", func(b *fakeBackup) { b.edit("ibdata1", flipAt(3*fakePage+5000)) }, "ibdata1: page 3: wrong checksum"},
		"page 5":             {"", func(b *fakeBackup) { b.edit("ibdata1", flipAt(5*fakePage+5000)) }, "ibdata1: page 5: wrong checksum"},
		"system page 0":      {"", func(b *fakeBackup) { b.edit("ibdata1", flipAt(9000)) }, "ibdata1: page 0: wrong checksum"},
		"system swapped":     {"", func(b *fakeBackup) { b.edit("ibdata1", swapPages(3, 4)) }, "ibdata1: page 3: says it is page 4"},
		"redo":               {maria, func(b *fakeBackup) { b.edit("ib_logfile0", flipAt(12288+400)) }, "ib_logfile0: the log is damaged or truncated at LSN"},
		"redo cut":           {maria, func(b *fakeBackup) { b.edit("ib_logfile0", func(c []byte) []byte { return c[:len(c)-500] }) }, "the backup needs it up to"},
		"undo":               {maria, func(b *fakeBackup) { b.edit("undo001", flipAt(3*fakePage+5000)) }, "undo001: page 3: wrong checksum"},
		"MySQL's redo":       {my, func(b *fakeBackup) { b.edit("xtrabackup_logfile", flipAt(2048+3*512+100)) }, "xtrabackup_logfile: the log is damaged or truncated at LSN"},
		"MySQL's redo cut":   {my, func(b *fakeBackup) { b.edit("xtrabackup_logfile", func(c []byte) []byte { return c[:len(c)-512] }) }, "the backup needs it up to"},
		"general tablespace": {my, func(b *fakeBackup) { b.edit("general.ibd", flipAt(3*fakePage+5000)) }, "general.ibd: page 3: wrong checksum"},
		"doublewrite area":   {my, func(b *fakeBackup) { b.edit("ibdata1", flipAt((fakeArea+3)*fakePage+5000)) }, ""},
		"after that area":    {my, func(b *fakeBackup) { b.edit("ibdata1", flipAt((fakeArea-1)*fakePage+5000)) }, "ibdata1: page 7: wrong checksum"},
		"second system file": {my, func(b *fakeBackup) { b.edit("ibdata2", flipAt(3*fakePage+5000)) }, "ibdata2: page 139: wrong checksum"},
		"its first page":     {my, func(b *fakeBackup) { b.edit("ibdata2", flipAt(5000)) }, "ibdata2: page"},
		"flush LSN alone": {my, func(b *fakeBackup) {
			b.edit("ibdata2", func(c []byte) []byte { clear(c[:fakePage]); c[innodb.OffsetFlushLSN+7] = 9; return c })
		}, ""},
		"system file lengths": {my, func(b *fakeBackup) { b.edit("ibdata1", func(c []byte) []byte { return c[:len(c)-fakePage] }) }, "ibdata2"},
	} {
		for _, family := range []string{maria, my} {
			if tc.only != "" && tc.only != family {
				continue
			}
			t.Run(name+"/"+family, func(t *testing.T) {
				b := fakeOwn(t, family)
				tc.make(b)
				for way, err := range b.verifyAll(false) {
					if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
						t.Errorf("%s: %v; want %q", way, err, tc.want)
					}
					if err != nil && !hasType[*backupdir.DamageError](err) && !hasType[*backupdir.MissingError](err) {
						t.Errorf("%s: an error of type %T", way, err)
					}
				}
			})
		}
	}
}

// TestVerifyReplay: what only a rehearsal can tell, and that it tells it in the
// words of the recovery.
func TestVerifyReplay(t *testing.T) {
	m := newFakeMySQL(t, mysqlredo.Format57).own()
	m.mtr(putAt(7, 3, 16380, []byte("beyond the end")))
	m.finish()
	for way, err := range m.verifyAll(false) {
		if err != nil {
			t.Errorf("%s: %v", way, err)
		}
	}
	for way, err := range m.verifyAll(true) {
		if err == nil || !strings.Contains(err.Error(), "db/t.ibd, page 3: the redo record at LSN 500") {
			t.Errorf("a rehearsal, %s: %v", way, err)
		}
	}
}

// TestVerifyWrongLog: a log of another backup, whole as it is.
func TestVerifyWrongLog(t *testing.T) {
	b := fakeOwn(t, metadata.FlavorMariaDB)
	b.sealTo(b.end + 100)
	for way, err := range b.verifyAll(false) {
		if !hasType[*backupdir.DamageError](err) || !strings.Contains(err.Error(), "by the manifest") {
			t.Errorf("%s: %v", way, err)
		}
	}
}

// TestManifestAgain: apply and verify find what was changed in a directory since
// it was extracted, and apply changes nothing then.
func TestManifestAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		make func(b *fakeBackup)
		want string
		as   func(error) bool
	}{
		"nothing":      {func(b *fakeBackup) {}, "", nil},
		"lost+found":   {func(b *fakeBackup) { b.write("lost+found/x", []byte("x")) }, "", nil},
		"extra file":   {func(b *fakeBackup) { b.write("db/u.frm", []byte("x")) }, "db/u.frm is there, but not in hb-manifest.json", hasType[*backupdir.NotBackupError]},
		"extra at top": {func(b *fakeBackup) { b.write("nohup.out", nil) }, "nohup.out is there", hasType[*backupdir.NotBackupError]},
		"extra directory": {func(b *fakeBackup) {
			if err := os.Mkdir(b.dir+"/db2", 0o755); err != nil {
				b.t.Fatal(err)
			}
		}, "db2 is there", hasType[*backupdir.NotBackupError]},
		"link": {func(b *fakeBackup) {
			if err := os.Symlink("t.frm", b.dir+"/db/u.frm"); err != nil {
				b.t.Fatal(err)
			}
		}, "db/u.frm is not a regular file", hasType[*backupdir.NotBackupError]},
		"missing file":     {func(b *fakeBackup) { os.Remove(b.dir + "/db/t.frm") }, "db/t.frm is missing", hasType[*backupdir.MissingError]},
		"missing manifest": {func(b *fakeBackup) { os.Remove(b.dir + "/" + metadata.ManifestName) }, "hb-manifest.json is missing", hasType[*backupdir.MissingError]},
		"missing header":   {func(b *fakeBackup) { os.Remove(b.dir + "/" + metadata.ArchiveName) }, "hb-archive.json is missing", hasType[*backupdir.MissingError]},
		"cut manifest": {func(b *fakeBackup) {
			b.edit(metadata.ManifestName, func(c []byte) []byte { return c[:len(c)-10] })
		}, "it is cut", hasType[*backupdir.DamageError]},
		"longer file":  {func(b *fakeBackup) { b.write("db/t.frm", []byte("a definition!")) }, "db/t.frm: it has 13 bytes, 12 by the manifest", hasType[*backupdir.DamageError]},
		"changed file": {func(b *fakeBackup) { b.write("db/t.frm", []byte("a Definition")) }, "db/t.frm: its checksum is", hasType[*backupdir.DamageError]},
		"changed page": {func(b *fakeBackup) {
			b.edit("db/t.ibd", func(c []byte) []byte { return append(c[:5*fakePage], b.page(7, 5, 6, 39000)...) })
		}, "db/t.ibd: its checksum is", hasType[*backupdir.DamageError]},
		"changed redo": {func(b *fakeBackup) { b.edit("ib_logfile0", flipAt(5000)) }, "ib_logfile0: its checksum is", hasType[*backupdir.DamageError]},
	} {
		t.Run(name, func(t *testing.T) {
			b := fakeOwn(t, metadata.FlavorMariaDB)
			b.seal()
			tc.make(b)
			before := disktest.ReadTree(t, b.dir)
			_, verified := verify.Directory(t.Context(), b.dir, verify.Options{})
			_, applied := apply.Run(t.Context(), b.dir, apply.Options{})
			for what, err := range map[string]error{"verify": verified, "apply": applied} {
				if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || !tc.as(err)) {
					t.Errorf("%s: %v; want %q", what, err, tc.want)
				}
			}
			if tc.want != "" && !maps.Equal(before, disktest.ReadTree(t, b.dir)) {
				t.Error("the directory was changed")
			}
		})
	}
}

// TestVerifyRecovered: an archive that says it needs no recovery is not taken for
// one whose recovery was rehearsed.
func TestVerifyRecovered(t *testing.T) {
	for family, kind := range map[string]string{metadata.FlavorMariaDB: metadata.LogApplied, metadata.FlavorMySQL: metadata.Prepared} {
		b := fakeOwn(t, family)
		b.checkpoints(kind, b.end)
		b.seal()
		archive := b.archive()
		for _, replay := range []bool{false, true} {
			_, err := verify.Archive(t.Context(), bytes.NewReader(archive), verify.Options{Replay: replay})
			if !hasType[*backupdir.DamageError](err) {
				t.Errorf("%s, rehearsed %v: %v", kind, replay, err)
			}
		}
	}
}

// TestVerifyHoles: an archive of Percona's has holes, for empty pages and for the
// ends of others.
func TestVerifyHoles(t *testing.T) {
	for name, tc := range map[string]struct {
		change func([]byte) []byte
		want   string
	}{
		"whole":        {func(c []byte) []byte { return c }, ""},
		"flipped bit":  {flipAt(2*fakePage + 500), "db/t.ibd: page 2: wrong checksum"},
		"swapped":      {swapPages(1, 4), "db/t.ibd: page 1: says it is page 4"},
		"ends in hole": {func(c []byte) []byte { clear(c[5*fakePage+9000:]); return c }, "db/t.ibd: page 5: wrong checksum"},
	} {
		b := fakeOwn(t, metadata.FlavorMySQL)
		b.edit("db/t.ibd", func(c []byte) []byte { clear(c[3*fakePage : 4*fakePage]); return c })
		b.edit("db/t.ibd", tc.change)
		files := disktest.ReadTree(t, b.dir)
		delete(files, metadata.ArchiveName)
		table := files["db/t.ibd"]
		delete(files, "db/t.ibd")
		var extents []uint32
		var data string
		at := 0
		for no := range 6 { // each page except what is zero after its content, and its trailer
			for _, part := range [][2]int{{0, 9000}, {fakePage - 8, fakePage}} {
				from, to := no*fakePage+part[0], no*fakePage+part[1]
				if table[from:to] == strings.Repeat("\x00", to-from) {
					continue
				}
				extents = append(extents, uint32(from-at), uint32(to-from))
				data += table[from:to]
				at = to
			}
		}
		extents = append(extents, uint32(len(table)-at), 0)
		archive := slices.Concat(raw.Sparse("db/t.ibd", 0, extents, data), raw.End("db/t.ibd"), archiveOf(t, files))
		for _, replay := range []bool{false, true} {
			r, err := verify.Archive(t.Context(), bytes.NewReader(archive), verify.Options{Replay: replay, Memory: 8 << 20})
			switch {
			case replay && tc.want == "": // page 3 is empty, and the redo log changes it
				if err == nil || !strings.Contains(err.Error(), "db/t.ibd, page 3: after recovery it says it is page 0 of tablespace 0") {
					t.Errorf("%s, rehearsed: %v", name, err)
				}
			case (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want):
				t.Errorf("%s: %v; want %q", name, err, tc.want)
			case err == nil && (r.Pages < 200 || len(r.Warnings) != 1):
				t.Errorf("%s: %+v", name, *r)
			}
		}
	}
}

// TestVerifyFixedUp: what recovery removed or renamed is not missing afterwards,
// what else is gone is.
func TestVerifyFixedUp(t *testing.T) {
	b := fakeOwn(t, metadata.FlavorMySQL)
	for i := range byte(20) {
		b.table(fmt.Sprintf("db/d%d.ibd", i), innodb.SpaceID(20+2*i), 4, 40000)
		b.write(fmt.Sprintf("db/d%d.del", i), nil)
		b.table(fmt.Sprintf("db/r%d.ibd", i), innodb.SpaceID(21+2*i), 4, 40000)
		b.write(fmt.Sprintf("db/r%d.ren", i), fmt.Appendf(nil, "db/new%d", i))
	}
	b.mustApply()
	if r, err := verify.Directory(t.Context(), b.dir, verify.Options{}); err != nil || !r.Applied {
		t.Errorf("%+v, %v", r, err)
	}
	for _, name := range []string{"general.ibd", "db/t.frm"} {
		content := b.read(name)
		os.Remove(b.dir + "/" + name)
		if _, err := verify.Directory(t.Context(), b.dir, verify.Options{}); !hasType[*backupdir.MissingError](err) || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
		b.write(name, content)
	}
	b.edit("db/t.ibd", flipAt(2*fakePage+5000))
	if _, err := verify.Directory(t.Context(), b.dir, verify.Options{}); !hasType[*backupdir.DamageError](err) || !strings.Contains(err.Error(), "db/t.ibd: page 2") {
		t.Errorf("damaged: %v", err)
	}
}

// TestByServerAgain: a directory that was made ready for the server, by which its
// files and names have changed, is known as such, and is verified with what is
// left to know of it.
func TestByServerAgain(t *testing.T) {
	make := func(family string) *fakeBackup {
		b := fakeOwn(t, family)
		if family == metadata.FlavorMariaDB {
			b.table("db/u.ibd", 8, 6, 40000)
			b.table("db/w.ibd", 9, 6, 40000)
			b.write("db/u.ren", []byte("db/v"))
			b.write("db/w.del", nil)
		}
		b.seal()
		if r, err := apply.Run(t.Context(), b.dir, apply.Options{ByServer: true}); err != nil || r.AlreadyApplied || r.LSN != b.end {
			t.Fatalf("%s: %+v, %v", family, r, err)
		}
		return b
	}
	for _, family := range []string{metadata.FlavorMariaDB, metadata.FlavorMySQL} {
		b := make(family)
		before := disktest.ReadTree(t, b.dir)
		for _, byServer := range []bool{true, false} {
			r, err := apply.Run(t.Context(), b.dir, apply.Options{ByServer: byServer})
			if err != nil || !r.AlreadyApplied || r.LSN != b.end {
				t.Errorf("%s, again, by the server %v: %+v, %v", family, byServer, r, err)
			}
		}
		for _, replay := range []bool{true, false} {
			r, err := verify.Directory(t.Context(), b.dir, verify.Options{Replay: replay})
			if err != nil || !r.HandedOver || r.LSN != b.end || r.Applied == (family == metadata.FlavorMariaDB) {
				t.Errorf("%s, rehearsed %v: %+v, %v", family, replay, r, err)
			}
		}
		if !maps.Equal(before, disktest.ReadTree(t, b.dir)) {
			t.Errorf("%s: the directory was changed", family)
		}
		b.edit("db/t.ibd", flipAt(2*fakePage+5000))
		if _, err := verify.Directory(t.Context(), b.dir, verify.Options{}); !hasType[*backupdir.DamageError](err) {
			t.Errorf("%s, a damaged page: %v", family, err)
		}
	}
	for name, tc := range map[string]struct {
		change          func([]byte) []byte
		applied, verify func(error) bool
	}{
		"damaged log": {flipAt(12288 + 400), func(err error) bool { return err == nil }, hasType[*backupdir.DamageError]},
		"a server's log": {func(log []byte) []byte {
			copy(log, mariadbredo.Header{Format: mariadbredo.Format108, FirstLSN: fakeStart, Creator: "MariaDB 10.11"}.Marshal())
			return log
		}, hasType[*backupdir.NotBackupError], hasType[*backupdir.NotBackupError]},
		"recovered log": {func([]byte) []byte { return mariadbredo.CleanLog(mariadbredo.Format108, 1<<20, "hb test") }, hasType[*backupdir.NotBackupError], hasType[*backupdir.NotBackupError]},
	} {
		b := make(metadata.FlavorMariaDB)
		b.edit(mariadb.LogName, tc.change)
		_, applied := apply.Run(t.Context(), b.dir, apply.Options{ByServer: true})
		_, verified := verify.Directory(t.Context(), b.dir, verify.Options{})
		if !tc.applied(applied) || !tc.verify(verified) {
			t.Errorf("%s: apply: %v; verify: %v", name, applied, verified)
		}
	}
}

// TestAllFaults: the faults of several files of a directory are reported in one run,
// one line for each file, before and after recovery, and of very many the first ones.
func TestAllFaults(t *testing.T) {
	for _, test := range []struct {
		name    string
		applied bool
		harm    func(b *fakeBackup)
		want    []string
	}{
		{"before", false, func(b *fakeBackup) {
			b.write("db/u.frm", []byte("x"))                   // none of the backup's
			os.Remove(b.dir + "/db/t.frm")                     // missing
			b.edit("undo001", flipAt(2*fakePage+77))           // damaged
			b.edit("db/t.ibd", flipAt(3*fakePage+77))          // damaged
			b.write("ib_logfile0", b.read("ib_logfile0")[:99]) // cut
		}, []string{"db/u.frm is there", "ib_logfile0: it has 99 bytes", "db/t.frm is missing", "db/t.ibd: ", "undo001: "}},
		{"after", true, func(b *fakeBackup) {
			os.Remove(b.dir + "/db/t.frm")
			b.edit("undo001", flipAt(2*fakePage+77))
			b.edit("db/t.ibd", flipAt(3*fakePage+77))
		}, []string{"db/t.frm is missing", "db/t.ibd: ", "undo001: "}},
		{"many", false, func(b *fakeBackup) {
			for i := range 30 {
				b.write(fmt.Sprintf("db/%d.frm", i), []byte("x"))
			}
		}, append(slices.Repeat([]string{".frm is there"}, 20), "and 10 more files")},
	} {
		b := fakeOwn(t, metadata.FlavorMariaDB)
		b.seal()
		if test.applied {
			b.mustApply()
		}
		test.harm(b)
		before := disktest.ReadTree(t, b.dir)
		_, verified := verify.Directory(t.Context(), b.dir, verify.Options{})
		told := map[string]error{"verify": verified}
		if !test.applied {
			_, told["apply"] = apply.Run(t.Context(), b.dir, apply.Options{})
		}
		for what, err := range told {
			lines := strings.Split(fmt.Sprint(err), "\n")
			if len(lines) != len(test.want) {
				t.Errorf("%s, %s: %d lines, want %d: %v", test.name, what, len(lines), len(test.want), err)
			}
			for _, want := range test.want {
				if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, want) }) {
					t.Errorf("%s, %s: %v; want %q", test.name, what, err, want)
				}
			}
		}
		if !maps.Equal(before, disktest.ReadTree(t, b.dir)) {
			t.Errorf("%s: the directory was changed", test.name)
		}
	}
}
