package source_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/sink/verify"
	"hb/source/mysqld/mysqldtest"
	"hb/stream/disk/disktest"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

// sealedOracle decrypts by itself what MySQL encrypts: from the keyring's JSON to pages and
// blocks of the redo log. It shares no code with hb.
type sealedOracle struct{ masters map[string][]byte }

func newSealedOracle(t *testing.T, file string) *sealedOracle {
	t.Helper()
	var doc struct {
		Elements []struct {
			ID   string `json:"data_id"`
			Data string `json:"data"`
		} `json:"elements"`
	}
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &doc)
	}
	if err != nil {
		t.Fatal(err)
	}
	o := &sealedOracle{make(map[string][]byte)}
	for _, e := range doc.Elements {
		if o.masters[e.ID], err = hex.DecodeString(e.Data); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// unwrap returns key and IV of 115 bytes of encryption information; nil: there is no such
// master key.
func (o *sealedOracle) unwrap(info []byte) []byte {
	name := fmt.Sprintf("INNODBKey-%s-%d", info[7:43], binary.BigEndian.Uint32(info[3:]))
	if o.masters[name] == nil || string(info[:3]) != "lCC" {
		return nil
	}
	block, err := aes.NewCipher(o.masters[name])
	if err != nil {
		return nil
	}
	out := make([]byte, 64)
	for i := 0; i < 64; i += 16 {
		block.Decrypt(out[i:], info[43+i:])
	}
	return out
}

// open decrypts data: first the last 32 bytes, then all whole blocks from the beginning.
func (o *sealedOracle) open(key, data []byte) []byte {
	out := bytes.Clone(data)
	block, err := aes.NewCipher(key[:32])
	if err != nil {
		return nil
	}
	run := func(b []byte) { cipher.NewCBCDecrypter(block, key[32:48]).CryptBlocks(b, b) }
	if len(out)%16 != 0 {
		run(out[len(out)-32:])
	}
	run(out[:len(out)/16*16])
	return out
}

// page is what a page means: all but the fields that only its stored form has.
func (o *sealedOracle) page(key, stored []byte, zip bool) []byte {
	end := len(stored)
	if kind := binary.BigEndian.Uint16(stored[24:]); kind == 16 {
		end = max(70, 38+int(binary.BigEndian.Uint16(stored[32:])))
	}
	if end > len(stored) {
		return nil
	}
	out := append(bytes.Clone(stored[:26]), stored[28:30]...) // with the original type
	if binary.BigEndian.Uint16(stored[24:]) == 17 {
		clear(out[26:]) // the pages of R-trees have a type of their own, and no other (os0enc.cc of 9.7.2)
	}
	if zip {
		clear(out[16:24]) // no checksum of ROW_FORMAT=COMPRESSED covers the LSN, encrypted or not
	}
	if kind := binary.BigEndian.Uint16(stored[24:]); kind == 16 {
		out = append(out, stored[26:34]...) // how it is compressed
	}
	out = append(out, stored[34:38]...)
	return append(out, o.open(key, stored[38:end])...)
}

// sealedFile is an encrypted tablespace in a directory.
type sealedFile struct {
	path  string
	space innodb.Space
	pages []int64 // that are encrypted
	info  int64   // where its encryption information is
	key   []byte
}

// TestSealedFlips flips bits of an extracted backup that nothing but the encrypted data itself
// protects, as the files that say what hb made are taken away: in encrypted pages, in the
// keys on page 0 (whose checksum is made right again), and in the encrypted redo log. (Package
// keyring flips each bit of hb-keys.age.) hb verify --replay refuses each, unless the flip does not change what is
// encrypted, which is decided without hb's code.
func TestSealedFlips(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	dir := disktest.Memory(t)
	file := filepath.Join(dir, "keyring")
	s := mysqldtest.Start(t, root, mysqldtest.Options{Keyring: file, Config: append([]string{"skip-log-bin"}, encryptedMySQL[:2]...)})
	fillEncrypted(t, s)
	s.WriteOut(t) // page 0 of each table, with its key
	archive := filepath.Join(dir, "archive")
	hookedBackup(t, s, archive, hooks{pace: func(n int) {
		if n < 30 {
			s.Exec(t, "UPDATE enc.plain SET b = CONCAT(b, 'y') WHERE a % 10 = 1")
		}
	}})
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(dir, "target")
	unpack(t, archive, target)
	for _, name := range []string{metadata.ArchiveName, metadata.ManifestName, metadata.IndexName} {
		if err := os.Remove(filepath.Join(target, name)); err != nil && name != metadata.IndexName {
			t.Fatal(err)
		}
	}
	keys := keysOf(t, file)
	look := func() (*verify.Result, error) {
		return verify.Directory(t.Context(), target, verify.Options{Keys: keys, Replay: true, Tmpdir: dir, Parallel: 2})
	}
	whole, err := look()
	if err != nil || whole.Partial() != nil {
		t.Fatalf("undamaged: %+v, %v", whole, err)
	}
	flips := 100
	if mysqldtest.Long() {
		flips = 1000
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	f := &flipper{t: t, r: rand.New(rand.NewPCG(seed, 1)), o: newSealedOracle(t, file), log: filepath.Join(target, "xtrabackup_logfile"), end: whole.LSN}
	f.files = f.find(target)
	refused, harmless := make(map[string]int), make(map[string]int)
	for i := range flips {
		kind := []string{"page", "key", "redo", "page"}[i%4]
		path, change, same := map[string]func() (string, func([]byte) int, func(before, after []byte) bool){"page": f.page, "key": f.key, "redo": f.redo}[kind]()
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		after := bytes.Clone(before)
		at := change(after)
		overwriteAll(t, path, after)
		r, err := look()
		overwriteAll(t, path, before)
		switch {
		case err != nil:
			refused[kind]++
		case same(before, after):
			harmless[kind]++
		default:
			t.Errorf("%s: %s, byte %d: %+v", kind, path, at, r)
		}
	}
	t.Logf("refused %v, harmless %v", refused, harmless)
	for _, kind := range []string{"page", "key", "redo"} {
		if refused[kind] < 3*harmless[kind] || refused[kind] == 0 {
			t.Errorf("%s: too few flips mattered", kind)
		}
	}
}

func overwriteAll(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o640); err != nil {
		t.Fatal(err)
	}
}

// flipper chooses a bit to flip. Its methods return the file, what flips a bit in its content
// and returns the byte, and what decides whether that changes anything that is encrypted.
type flipper struct {
	t     *testing.T
	r     *rand.Rand
	o     *sealedOracle
	files []*sealedFile
	log   string
	end   innodb.LSN
}

// find lists the encrypted tablespaces.
func (f *flipper) find(dir string) (files []*sealedFile) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !strings.HasSuffix(path, ".ibd") && !strings.HasPrefix(d.Name(), "undo_") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		space, err := innodb.ParseSpace(b)
		if err != nil || !space.MySQLEncrypted() {
			return nil
		}
		s := &sealedFile{path: path, space: space, info: int64(150 + 40*space.Physical/64)}
		if s.key = f.o.unwrap(b[s.info:]); s.key == nil {
			f.t.Errorf("%s: no key", path)
		}
		for at := space.Physical; at+space.Physical <= len(b); at += space.Physical {
			if kind := binary.BigEndian.Uint16(b[at+24:]); kind >= 15 && kind <= 17 {
				s.pages = append(s.pages, int64(at))
			}
		}
		if len(s.pages) > 0 {
			files = append(files, s)
		}
		return nil
	})
	if err != nil || len(files) < 6 {
		f.t.Fatalf("%d encrypted tablespaces, %v", len(files), err)
	}
	return files
}

func (f *flipper) flip(b []byte, from, n int64) int {
	at := from + f.r.Int64N(n)
	b[at] ^= 1 << f.r.IntN(8)
	return int(at)
}

func (f *flipper) page() (string, func([]byte) int, func(before, after []byte) bool) {
	s := f.files[f.r.IntN(len(f.files))]
	at, size := s.pages[f.r.IntN(len(s.pages))], int64(s.space.Physical)
	n := size
	if f.r.IntN(2) == 0 {
		n = 64 // the header, and the beginning of what is encrypted
	}
	return s.path, func(b []byte) int { return f.flip(b, at, n) }, func(before, after []byte) bool {
		plain := f.o.page(s.key, after[at:at+size], s.space.Zip())
		return plain != nil && bytes.Equal(plain, f.o.page(s.key, before[at:at+size], s.space.Zip()))
	}
}

func (f *flipper) key() (string, func([]byte) int, func(before, after []byte) bool) {
	s := f.files[f.r.IntN(len(f.files))]
	change := func(b []byte) int {
		at := f.flip(b, s.info, 115)
		s.space.Stamp(b[:s.space.Physical], innodb.ChecksumCRC32)
		return at
	}
	return s.path, change, func(_, after []byte) bool { return bytes.Equal(f.o.unwrap(after[s.info:]), s.key) }
}

// redo flips a bit in the blocks of the log, or in the information about its key.
func (f *flipper) redo() (string, func([]byte) int, func(before, after []byte) bool) {
	const head, block = 2048, 512
	change := func(b []byte) int {
		if f.r.IntN(5) == 0 {
			return f.flip(b, 1072, 115)
		}
		return f.flip(b, head, int64(len(b)-head))
	}
	records := func(b []byte) (out []byte) {
		key := f.o.unwrap(b[1072:])
		if key == nil {
			return nil
		}
		for at := head; at+block <= len(b); at += block {
			plain := bytes.Clone(b[at : at+block])
			if used := binary.BigEndian.Uint16(plain[4:]); used&(1<<15) != 0 {
				binary.BigEndian.PutUint16(plain[4:], used&^(1<<15))
				copy(plain[12:], f.o.open(key, plain[12:]))
			}
			out = append(out, plain[:508]...)
		}
		return out
	}
	return f.log, change, func(before, after []byte) bool {
		was := records(before)
		return was != nil && bytes.Equal(was, records(after))
	}
}
