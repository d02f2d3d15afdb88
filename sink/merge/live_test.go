package merge_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"hb/sink"
	"hb/sink/apply"
	"hb/sink/catalog"
	"hb/sink/extract"
	"hb/sink/verify"
	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/source/mysqld/mysqldtest/workload"
	"hb/xbstream"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/delta"
	"hb/xbstream/metadata"
	"hb/xbstream/xbtest"
)

// TestMergeDerived: of two full backups of a loaded server, the second is what the first
// and its pages with an LSN since the first's checkpoint make: to the byte. So the rule
// which pages an increment has is right for real servers, and merge for real tablespaces.
func TestMergeDerived(t *testing.T) {
	servers := []string{mysqldtest.MariaDB1011, mysqldtest.MySQL97}
	if mysqldtest.Long() {
		servers = append(append([]string(nil), mysqldtest.MariaDB...), mysqldtest.MySQL...)
	}
	mysqldtest.Each(t, servers, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true})
		load, err := workload.Prepare(t.Context(), s.DB(), workload.Options{DDLRate: 20})
		if err != nil {
			t.Fatal(err)
		}
		var backups []*fullBackup
		for round := range 3 {
			workload.During(t, load, func() {
				time.Sleep(time.Second)
				if round == 0 {
					backups = append(backups, takeFull(t, s)) // with files that DDL renames
				}
				time.Sleep(time.Second)
			})
			if round > 0 {
				backups = append(backups, takeFull(t, s))
			}
		}
		states := []*state{{archive: backups[0].archive}}
		before := backups[0].since()
		names := backups[0].names()
		for _, b := range backups[1:] {
			inc := b.derive(t, before, names)
			states = append(states, &state{archive: inc})
			parsed := parse(t, inc)
			before, names = parsed.since(), b.names()
		}
		var out bytes.Buffer
		files := save(t, states...)
		result, err := mergeFiles(t.Context(), files, &out)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d pages; %d, %d and %d bytes make %d", result.Pages, len(states[0].archive), len(states[1].archive), len(states[2].archive), out.Len())
		sameBackup(t, parse(t, out.Bytes()), backups[2])
		r, err := verify.Archive(t.Context(), bytes.NewReader(out.Bytes()), verify.Options{Replay: true, Tmpdir: t.TempDir()})
		if err != nil || r.Pages == 0 {
			t.Errorf("verifying: %+v, %v", r, err)
		}
	})
}

// fullBackup is a full backup of a real server.
type fullBackup struct {
	archive  []byte
	files    map[string][]byte
	order    []string
	header   *metadata.Archive
	manifest *metadata.Manifest
}

func takeFull(t *testing.T, s *mysqldtest.Server) *fullBackup {
	t.Helper()
	var out bytes.Buffer
	srv := client.Open(t, s)
	_, err := source.Run(t.Context(), srv, &out, source.Options{Parallel: 2, Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test"})
	if err := errors.Join(err, srv.Close()); err != nil {
		t.Fatal(err)
	}
	return parse(t, out.Bytes())
}

func parse(t *testing.T, archive []byte) *fullBackup {
	t.Helper()
	b := &fullBackup{archive: archive, files: xbtest.ReadAll(t, bytes.NewReader(archive))}
	s, err := catalog.List(t.Context(), bytes.NewReader(archive), func(e catalog.Entry) error {
		b.order = append(b.order, e.Path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	b.header, b.manifest = s.Archive, s.Manifest
	return b
}

func (b *fullBackup) since() metadata.Since {
	h := metadata.NewPointHash(b.files[metadata.ArchiveName])
	h.Write(b.files[metadata.ManifestName])
	m := b.manifest
	return metadata.Since{Base: h.Sum(), FromLSN: m.FromLSN, CheckpointLSN: m.CheckpointLSN, LastLSN: m.LastLSN}
}

// backupsOwn are the files that no server has.
var backupsOwn = regexp.MustCompile(`^hb-|^xtrabackup_|^mariadb_backup_|^backup-my.cnf$|^ib_logfile0$|\.(ren|del)$`)

// spaceFile are the files of tablespaces.
var spaceFile = regexp.MustCompile(`\.ib[du]$|^undo|^ibdata`)

// names are the server's files, by the ids of those that are tablespaces.
func (b *fullBackup) names() map[string]innodb.SpaceID {
	names := make(map[string]innodb.SpaceID)
	for name, content := range b.files {
		switch {
		case backupsOwn.MatchString(name):
		case spaceFile.MatchString(name) && !innodb.AllZero(content[:innodb.SpaceHeaderSize]):
			names[name] = innodb.HeaderSpace(content)
		default:
			names[name] = innodb.SpaceID(innodb.PageNull)
		}
	}
	return names
}

// derive makes the incremental backup that has what a full one has since another.
func (b *fullBackup) derive(t *testing.T, since metadata.Since, before map[string]innodb.SpaceID) []byte {
	t.Helper()
	byID := make(map[innodb.SpaceID]string)
	for name, id := range before {
		if id != innodb.SpaceID(innodb.PageNull) {
			byID[id] = name
		}
	}
	var out bytes.Buffer
	w := xbstream.NewWriter(&out)
	put := func(name string, content []byte) {
		f, err := w.Create(name)
		if err == nil {
			_, err = f.Write(content)
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	head := *b.header
	head.Version, head.Options.Incremental = 2, true
	text, err := head.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	put(metadata.ArchiveName, text)
	var live []metadata.Live
	used := make(map[string]bool)
	for _, name := range b.order {
		content := b.files[name]
		switch {
		case path.Ext(name) == ".ren" || path.Ext(name) == ".del":
			t.Errorf("%s: DDL went on", name)
		case name == metadata.ArchiveName || name == metadata.IndexName || name == metadata.ManifestName:
		case backupsOwn.MatchString(name):
			put(name, content)
		case spaceFile.MatchString(name) && !innodb.AllZero(content[:innodb.SpaceHeaderSize]): // else it is in the redo log
			l, file := b.pagesSince(t, name, since.FromLSN)
			if old, ok := byID[*l.Space]; ok {
				l.Kind, l.From = metadata.LiveChanged, old
				used[old] = true
			}
			put(name+delta.ExtMeta, file.meta)
			put(l.Stored, file.delta)
			live = append(live, l)
		default:
			put(name, content)
			live = append(live, metadata.Live{Path: name, Size: int64(len(content)), Kind: metadata.LiveCopied, Stored: name})
			used[name] = true
		}
	}
	var dropped []string
	for name, id := range before {
		replaced := slices.ContainsFunc(live, func(l metadata.Live) bool { return l.Path == name && l.From == "" })
		if !used[name] && !replaced {
			t.Logf("dropped: %s, tablespace %d", name, id)
			dropped = append(dropped, name)
		}
	}
	index, _ := w.Index()
	at := w.Written()
	put(metadata.IndexName, index)
	m := *b.manifest
	since.Live, since.Dropped = int64(len(live)), int64(len(dropped))
	m.Since, m.Heads, m.Files, m.Bytes = &since, metadata.CRC32(w.HeadsCRC32()), int64(len(w.Ended())), 0
	for _, f := range w.Ended() {
		m.Bytes += f.Size
	}
	var manifest bytes.Buffer
	mw, err := metadata.NewManifestWriter(&manifest, m)
	if err != nil {
		t.Fatal(err)
	}
	mw.IndexAt = at
	for _, f := range w.Ended() {
		err = errors.Join(err, mw.Add(metadata.File{Path: f.Path, Size: f.Size, CRC32: f.CRC32}))
	}
	for _, l := range live {
		err = errors.Join(err, mw.AddLive(l))
	}
	for _, name := range dropped {
		err = errors.Join(err, mw.AddDropped(name))
	}
	if err := errors.Join(err, mw.Close()); err != nil {
		t.Fatal(err)
	}
	put(metadata.ManifestName, manifest.Bytes())
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// deltaFiles are the two files of changed pages.
type deltaFiles struct{ meta, delta []byte }

// pagesSince stores the pages of a file that changed since an LSN: as a new file.
func (b *fullBackup) pagesSince(t *testing.T, name string, from innodb.LSN) (metadata.Live, deltaFiles) {
	t.Helper()
	content := b.files[name]
	space, err := innodb.ParseSpace(content)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	size := space.Physical
	l := metadata.Live{Path: name, Size: int64(len(content)), Kind: metadata.LiveNew, Space: &space.ID, Stored: name + delta.Ext, Sum: new(innodb.PageSum)}
	var exempt []innodb.PageRange
	if space.ID == 0 {
		exempt = space.DoublewriteArea(content[size*int(innodb.TrxSysPage):][:size])
	}
	var file bytes.Buffer
	w, err := delta.NewWriter(&file, size, func() (delta.File, error) { return os.Create(filepath.Join(t.TempDir(), "spilt")) })
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(content); at += size {
		no, page := innodb.PageNo(at/size), content[at:at+size]
		lsn := innodb.HeaderLSN(page)
		if !slices.ContainsFunc(exempt, func(r innodb.PageRange) bool { return r.Contains(no) }) {
			l.Sum.Toggle(no, page, &space)
		}
		// Zero pages travel in the delta: the base may have others.
		if lsn >= from || lsn == 0 {
			if err := w.Add(no, page); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return l, deltaFiles{delta.Meta{PageSize: size, ZipSize: zipSize(&space), Space: space.ID, Flags: space.Flags, HasFlags: true}.Marshal(), file.Bytes()}
}

func zipSize(s *innodb.Space) int {
	if s.Zip() {
		return s.Physical
	}
	return 0
}

// sameBackup compares all files of the server, and what describes the backup.
func sameBackup(t *testing.T, got, want *fullBackup) {
	t.Helper()
	for name := range want.files {
		if name == metadata.ArchiveName || name == metadata.IndexName || name == metadata.ManifestName {
			continue
		}
		a, b := got.files[name], want.files[name]
		if _, ok := got.files[name]; !ok {
			t.Errorf("%s is missing", name)
		} else if name != "ibdata1" && !bytes.Equal(a, b) {
			t.Errorf("%s: %d bytes, want %d", name, len(a), len(b))
		}
		if name == "ibdata1" {
			sameSystem(t, a, b)
		}
	}
	for name := range got.files {
		if _, ok := want.files[name]; !ok {
			t.Errorf("%s is not in the full backup", name)
		}
	}
	g, w := *got.manifest, *want.manifest
	if g.FromLSN != w.FromLSN || g.LastLSN != w.LastLSN || g.Files != w.Files || g.Bytes-int64(len(got.files[metadata.IndexName])) != w.Bytes-int64(len(want.files[metadata.IndexName]))-int64(len(want.files[metadata.ArchiveName]))+int64(len(got.files[metadata.ArchiveName])) {
		t.Errorf("manifest %+v, want %+v", g, w)
	}
}

// sameSystem compares the system tablespace, but for the copies of pages in it.
func sameSystem(t *testing.T, got, want []byte) {
	t.Helper()
	space, err := innodb.ParseSpace(want)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d bytes, want %d: %v", len(got), len(want), err)
	}
	size := space.Physical
	exempt := space.DoublewriteArea(want[size*int(innodb.TrxSysPage):][:size])
	for at := 0; at < len(want); at += size {
		no := innodb.PageNo(at / size)
		if !bytes.Equal(got[at:at+size], want[at:at+size]) && !slices.ContainsFunc(exempt, func(r innodb.PageRange) bool { return r.Contains(no) }) {
			t.Errorf("page %d of the system tablespace differs", no)
		}
	}
}

// TestMergeLive: a chain of real backups, merged and recovered, is what a full backup of the
// same moment is, recovered: every file of the server, to the byte.
func TestMergeLive(t *testing.T) {
	servers := []string{mysqldtest.MariaDB1011, mysqldtest.MySQL97}
	if mysqldtest.Long() {
		servers = append(append([]string(nil), mysqldtest.MariaDB...), mysqldtest.MySQL...)
	}
	mysqldtest.Each(t, servers, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true})
		load, err := workload.Prepare(t.Context(), s.DB(), workload.Options{DDLRate: 20})
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		var names []string
		take := func(name, since string) {
			t.Helper()
			out, err := os.Create(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			srv := client.Open(t, s)
			_, err = source.Run(t.Context(), srv, out, source.Options{Parallel: 2, Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test", Since: since})
			if err := errors.Join(err, srv.Close(), out.Close()); err != nil {
				t.Fatal(err)
			}
		}
		for round := range 4 {
			workload.During(t, load, func() {
				time.Sleep(time.Second)
				if round < 3 { // while DDL goes on
					name, since := fmt.Sprint(round), ""
					if round > 0 {
						since = names[round-1]
					}
					take(name, since)
					names = append(names, filepath.Join(dir, name))
				}
				time.Sleep(time.Second)
			})
		}
		s.WriteOut(t)
		take("last", names[2])
		take("full", "")
		names = append(names, filepath.Join(dir, "last"))
		var merged bytes.Buffer
		result, err := mergeFiles(t.Context(), names, &merged)
		if err != nil {
			t.Fatal(err)
		}
		full, err := os.ReadFile(filepath.Join(dir, "full"))
		if err != nil {
			t.Fatal(err)
		}
		for name, archive := range map[string][]byte{"merged": merged.Bytes(), "whole": full} {
			if _, _, err := sink.Restore(t.Context(), bytes.NewReader(archive), filepath.Join(dir, name), extract.Options{}, apply.Options{Tool: "hb"}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		sameServers(t, filepath.Join(dir, "merged"), filepath.Join(dir, "whole"), result.Manifest.LastLSN)
		workload.VerifyCopy(t, s, filepath.Join(dir, "merged"), true)
	})
}

// samePages compares a file page by page. The full backup was made a moment later: of a page
// that the server wrote since the chain's last LSN it has a later version.
func samePages(t *testing.T, name string, got, want []byte, last innodb.LSN) {
	t.Helper()
	space, err := innodb.ParseSpace(want)
	if err != nil || len(got) != len(want) {
		t.Errorf("%s has %d bytes, want %d: %v", name, len(got), len(want), err)
		return
	}
	var exempt []innodb.PageRange
	if name == "ibdata1" {
		exempt = space.DoublewriteArea(want[space.Physical*int(innodb.TrxSysPage):][:space.Physical])
	}
	for at := 0; at < len(want); at += space.Physical {
		a, b := got[at:at+space.Physical], want[at:at+space.Physical]
		no := innodb.PageNo(at / space.Physical)
		if bytes.Equal(a, b) || slices.ContainsFunc(exempt, func(r innodb.PageRange) bool { return r.Contains(no) }) {
			continue
		}
		now := innodb.HeaderLSN(b)
		if name == "ibdata1" && no == 0 && now == innodb.HeaderLSN(a) {
			continue // recovery wrote into it the LSN that it reached
		}
		if now <= last {
			t.Errorf("%s: page %d has LSN %d, want %d", name, at/space.Physical, innodb.HeaderLSN(a), now)
		} else {
			t.Logf("%s: page %d has LSN %d, after %d", name, at/space.Physical, now, last)
		}
	}
}

// sameServers compares two recovered directories: all files of the server but its logs.
func sameServers(t *testing.T, got, want string, last innodb.LSN) {
	t.Helper()
	other := regexp.MustCompile(`^hb-|^xtrabackup_|^mariadb_backup_|^backup-my.cnf$|^ib_logfile|^#innodb_redo|^binlog|^aria_log`)
	files := func(dir string) map[string][]byte {
		all := make(map[string][]byte)
		err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			rel, _ := filepath.Rel(dir, name)
			if err == nil && !d.IsDir() && !other.MatchString(rel) {
				all[rel], err = os.ReadFile(name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	a, b := files(got), files(want)
	for name := range b {
		content, ok := a[name]
		if !ok {
			t.Errorf("%s is missing", name)
		} else if !bytes.Equal(content, b[name]) {
			samePages(t, name, content, b[name], last)
		}
	}
	for name := range a {
		if _, ok := b[name]; !ok {
			t.Errorf("%s is not in the full backup", name)
		}
	}
}
