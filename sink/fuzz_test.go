package sink

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/catalog"
	"hb/stream"
	"hb/stream/disk"
	"hb/stream/disk/disktest"
	"hb/xbstream"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/innodb/mysqlredo/mlog"
	"hb/xbstream/metadata"
	"hb/xbstream/xbtest"
)

// FuzzBackupDir gives hostile metadata to what apply learns of a directory
// before it does anything. It must not fail but by an error.
func FuzzBackupDir(f *testing.F) {
	const checkpoints = "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 45231\nlast_lsn = 45243\nflushed_lsn = 45231\n"
	const cnf = "[mysqld]\ninnodb_data_file_path=ibdata1:12M;ibdata2:12M:autoextend\ninnodb_page_size=16384\ninnodb_undo_tablespaces=2\ninnodb_checksum_algorithm=strict_crc32\n"
	header, err := xbtest.Header(fakePage, 100).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	manifest := `{"hb_manifest":1,"files":5,"bytes":98719,"heads_crc32":"1234abcd","from_lsn":100,"checkpoint_lsn":150,"last_lsn":200,` +
		`"start":"2026-11-20T10:00:00Z","end":"2026-11-20T10:05:00Z","lock_ms":{"ddl":12,"commit":3},"undo_spaces":[1,2],"replay_from":{"7":150}}` + "\n"
	f.Add(checkpoints, cnf, string(header), manifest, `{"stage":"finish","end":200,"format":1}`, "db/u\n")
	f.Add(checkpoints, "", "", "", `{"stage":"replay"}`, "../u")
	f.Fuzz(func(t *testing.T, checkpoints, cnf, header, manifest, state, renamed string) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{
			"xtrabackup_checkpoints": checkpoints, metadata.MyCnfName: cnf, metadata.ArchiveName: header,
			metadata.ManifestName: manifest, backupdir.ApplyingName: state, "db/t.ren": renamed, "db/t.ibd": "", "ibdata1": "",
		} {
			if text == "" && name != "db/t.ibd" && name != "ibdata1" {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		root, err := disk.OS.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		for _, flavor := range []string{metadata.FlavorMariaDB, metadata.FlavorMySQL} {
			_, _ = backupdir.ReadState(root, backupdir.ApplyingName, flavor)
		}
		_, _ = backupdir.Read(root)
		if result, err := apply.Run(t.Context(), dir, apply.Options{Memory: 8 << 20, Parallel: 1}); err == nil && !result.AlreadyApplied {
			t.Fatalf("a backup without pages was applied: %+v", result)
		}
		if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) != 1 {
			t.Errorf("beside the directory: %v, %v", left, err)
		}
	})
}

// FuzzVerify damages a file of a backup whose sums are right all the same, and
// gives the redo log a mini-transaction of any bytes. What a rehearsal accepts,
// as an archive or as a directory, apply must recover.
func FuzzVerify(f *testing.F) {
	f.Add(false, uint8(0), uint32(0), []byte{}, false, []byte{})
	f.Add(true, uint8(0), uint32(0), []byte{}, false, []byte{})
	f.Add(false, uint8(1), uint32(2*fakePage+38), []byte{0, 1, 2, 3}, true, write50(7, 2, "text"))
	f.Add(false, uint8(1), uint32(38), []byte{0xFF}, true, rec(0x00, 7, 3))
	f.Add(true, uint8(1), uint32(3*fakePage+5000), []byte("changed"), true, put(7, 3, "text"))
	f.Add(true, uint8(3), uint32(54), []byte{0x21}, false, makePage0(mlog.InitFilePage2, 9, 5, oldFlags))
	f.Add(false, uint8(5), uint32(13000), []byte{0x80}, false, file(0xB0, 9, "./db/new.ibd"))
	f.Fuzz(func(t *testing.T, mysql bool, which uint8, at uint32, patch []byte, stamp bool, redo []byte) {
		b := fuzzedBackup(t, mysql, redo)
		names := slices.Sorted(maps.Keys(disktest.ReadTree(t, b.dir)))
		name := names[int(which)%len(names)]
		b.edit(name, func(c []byte) []byte {
			if len(c) == 0 || len(patch) == 0 {
				return c
			}
			from := int(at) % len(c)
			n := copy(c[from:], patch)
			if page := from / fakePage * fakePage; stamp && backupdir.TablespaceName.MatchString(name) && from+n <= page+fakePage && page+fakePage <= len(c) {
				b.stamp(c[page:page+fakePage], innodb.HeaderLSN(c[page:]))
			}
			return c
		})
		found := b.verifyAll(true)
		_, err := apply.Run(t.Context(), b.dir, apply.Options{Memory: 8 << 20, Parallel: 1, Tool: "hb test"})
		for way, rehearsed := range found {
			if rehearsed == nil && err != nil {
				t.Errorf("recovery ends with %v, but its rehearsal with %s found nothing", err, way)
			}
		}
		if (found["pipe"] == nil) != (found["file"] == nil) {
			t.Errorf("from a pipe: %v; from a file: %v", found["pipe"], found["file"])
		}
	})
}

// fuzzedBackup is a whole backup of hb's whose redo log ends with a
// mini-transaction of those bytes, if any.
func fuzzedBackup(t *testing.T, mysql bool, redo []byte) *fakeBackup {
	if mysql {
		m := newFakeMySQL(t, mysqlredo.Format57).own()
		m.mtr(put(7, 3, "first"), put(0, 4, "system"))
		if len(redo) > 0 {
			m.mtr(redo)
		}
		return m.finish().fakeBackup
	}
	b := newFakeBackup(t, mariadbredo.Format108, fullFlags).own()
	b.mtr(file(0xB0, 7, "./db/t.ibd"), write50(7, 3, "first"), write50(0, 4, "system"))
	if len(redo) > 0 {
		b.mtr(redo)
	}
	return b.finish()
}

// FuzzParts gives archives to what reads from their middle: what it takes for a file must
// be what reading the archive from front to back finds under that name, if anything.
func FuzzParts(f *testing.F) {
	build := func(o stream.WriteOptions) []byte {
		a := newArchive()
		a.Interleave([]string{"db/a.MYD", "db/b.MYD"}, map[string][]byte{"db/a.MYD": page(300, 2), "db/b.MYD": page(200, 4)}, 100)
		b, err := a.Finish()
		if err != nil {
			f.Fatal(err)
		}
		return staged(f, b, o)
	}
	f.Add(build(stream.WriteOptions{}))
	f.Add(build(stream.WriteOptions{Compress: &stream.Compression{Threads: 1}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, _, err := parts(b, stream.Options{})
		if err != nil {
			return
		}
		whole := map[string][]byte{}
		in, err := stream.Open(bytes.NewReader(b), stream.Options{})
		if err != nil {
			return
		}
		defer in.Close()
		for rd := xbstream.NewReader(in, xbstream.ReaderOptions{}); ; {
			ch, err := rd.Next()
			if err != nil {
				break
			}
			whole[ch.Path] = append(whole[ch.Path], ch.Data...)
		}
		if _, err := catalog.ListIndex(p, func(catalog.Entry) error { return nil }); err != nil {
			t.Fatal(err)
		}
		picked := catalog.NewPicked(p, func(path string) bool { return path != metadata.ArchiveName })
		defer picked.Close()
		got := map[string][]byte{}
		for rd := xbstream.NewReader(picked.Open(), xbstream.ReaderOptions{}); ; {
			ch, err := rd.Next()
			if err != nil {
				return
			}
			ended, err := picked.Add(ch)
			if err != nil {
				return
			}
			got[ch.Path] = append(got[ch.Path], ch.Data...)
			if content, there := whole[ch.Path]; ended != nil && there && !bytes.Equal(content, got[ch.Path]) {
				t.Fatalf("%s has %d bytes by the index, %d in the archive", ch.Path, len(got[ch.Path]), len(content))
			}
		}
	})
}
