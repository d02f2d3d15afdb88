package overlay

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"

	"hb/stream/disk"
	"hb/stream/disk/disktest"
)

func newOverlay(t *testing.T) *Dir {
	d := New("overlay", disktest.Open(t, t.TempDir()))
	t.Cleanup(func() {
		if err := d.Discard(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// TestLikeAFile does the same at random to a file of an overlay and to a slice.
func TestLikeAFile(t *testing.T) {
	const most = 1 << 16
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		d := newOverlay(t)
		base := make([]byte, random.IntN(most))
		for i := range base {
			base[i] = byte(random.Uint32()) | 1
		}
		size := int64(len(base))
		if round%3 == 0 { // content that goes on past the file's end, or ends before
			size = random.Int64N(most)
		}
		if err := d.AddBytes("db/t", size, base); err != nil {
			t.Fatal(err)
		}
		want := make([]byte, size)
		copy(want, base)
		f, err := d.OpenFile("db/t", os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		for range 40 {
			off := random.IntN(most)
			switch random.IntN(5) {
			case 0:
				n := random.Int64N(most)
				want = append(want, make([]byte, max(0, n-int64(len(want))))...)[:n:n]
				if err := f.Truncate(n); err != nil {
					t.Fatal(err)
				}
			default:
				b := make([]byte, random.IntN(5000))
				for i := range b {
					b[i] = byte(random.Uint32())
				}
				if n := off + len(b); n > len(want) && len(b) > 0 {
					want = append(want, make([]byte, n-len(want))...)
				}
				if len(b) == 0 {
					continue
				}
				copy(want[off:], b)
				if _, err := f.WriteAt(b, int64(off)); err != nil {
					t.Fatal(err)
				}
			}
			got := make([]byte, len(want)+1)
			n, err := f.ReadAt(got, 0)
			if n != len(want) || err != io.EOF || !bytes.Equal(got[:n], want) {
				t.Fatalf("round %d: read %d bytes of %d, %v", round, n, len(want), err)
			}
			st, err := d.Stat("db/t")
			if err != nil || st.Size() != int64(len(want)) {
				t.Fatalf("%v, %v", st, err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLikeADirectory: names behave as in a directory, for package fs too.
func TestLikeADirectory(t *testing.T) {
	d := newOverlay(t)
	for _, name := range []string{"a", "db/t.ibd", "db/u.ibd", "db2/x"} {
		if err := d.AddBytes(name, 3, []byte("abc")); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	err := fs.WalkDir(d.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if want := []string{"a", "db/t.ibd", "db/u.ibd", "db2/x"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("files %q, %v; want %q", names, err, want)
	}
	if b, err := fs.ReadFile(d.FS(), "db/t.ibd"); err != nil || string(b) != "abc" {
		t.Errorf("db/t.ibd reads %q, %v", b, err)
	}
	open, err := d.Open("db/u.ibd")
	if err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		what string
		err  error
		want error
	}{
		{"rename", d.Rename("db/t.ibd", "db2/t.ibd"), nil},
		{"rename over another", d.Rename("db2/t.ibd", "db2/x"), nil},
		{"rename what is gone", d.Rename("db/t.ibd", "db/v"), fs.ErrNotExist},
		{"rename to nowhere", d.Rename("a", "nowhere/a"), fs.ErrNotExist},
		{"remove an open file", d.Remove("db/u.ibd"), nil},
		{"remove what is gone", d.Remove("db/u.ibd"), fs.ErrNotExist},
		{"make what is there", d.Mkdir("db", 0o700), fs.ErrExist},
		{"make below nowhere", d.Mkdir("x/y", 0o700), fs.ErrNotExist},
		{"make", d.MkdirAll("x/y", 0o700), nil},
		{"link", d.Link("a", "a2"), nil},
		{"link over another", d.Link("a", "a2"), fs.ErrExist},
		{"rename to its other name", d.Rename("a2", "a"), nil},
		{"link to nowhere", d.Symlink("s/t", "s"), nil},
		{"rename over a link", d.Rename("a2", "s"), nil},
		{"link to itself", d.Symlink("l/t", "l"), nil},
	}
	for _, s := range steps {
		if !errors.Is(s.err, s.want) {
			t.Errorf("%s: %v, want %v", s.what, s.err, s.want)
		}
	}
	if err := d.Remove("db2"); err == nil {
		t.Error("a directory with files was removed")
	}
	for _, flag := range []int{os.O_RDONLY, os.O_CREATE | os.O_EXCL} {
		name := map[int]string{os.O_RDONLY: "db/u.ibd", os.O_CREATE | os.O_EXCL: "db2/x"}[flag]
		if f, err := d.OpenFile(name, flag, 0o600); err == nil {
			t.Errorf("%s was opened with flags %#x", name, flag)
			f.Close()
		}
	}
	if b, err := io.ReadAll(open); err != nil || string(b) != "abc" {
		t.Errorf("the removed file reads %q, %v", b, err)
	}
	if target, err := d.Readlink("l"); target != "l/t" || err != nil {
		t.Errorf("the link leads to %q, %v", target, err)
	}
	for _, name := range []string{"a", "s"} {
		if b, err := d.ReadFile(name); err != nil || string(b) != "abc" {
			t.Errorf("%s reads %q, %v", name, b, err)
		}
	}
	if _, err := d.Open("l"); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("the link opens with %v", err)
	}
	sub, err := d.OpenDir("db2")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := sub.ReadFile("x"); err != nil || string(b) != "abc" || sub.Name() != "overlay/db2" {
		t.Errorf("%s/x reads %q, %v", sub.Name(), b, err)
	}
	if err := open.Close(); err != nil {
		t.Error(err)
	}
}

// TestPieces: what lies in pieces reads as one, with zeros between.
func TestPieces(t *testing.T) {
	p := &Pieces{From: bytes.NewReader([]byte("xxABCDEFxx"))}
	p.Add(2, 2, 2)
	p.Add(4, 1, 4)
	p.Add(8, 3, 5)
	want := []byte("\x00\x00ABC\x00\x00\x00DEF\x00\x00")
	for from := range want {
		for to := from; to <= len(want); to++ {
			got := bytes.Repeat([]byte{9}, to-from)
			if n, err := p.ReadAt(got, int64(from)); n != len(got) || err != nil || !bytes.Equal(got, want[from:to]) {
				t.Errorf("%d to %d: %q, %v", from, to, got, err)
			}
		}
	}
	p.Add(20, 5, 8)
	if _, err := p.ReadAt(make([]byte, 5), 20); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("after the end: %v", err)
	}
}

// TestNothingLeft: temporary files have no name.
func TestNothingLeft(t *testing.T) {
	tmp := t.TempDir()
	d := New("overlay", disktest.Open(t, tmp))
	f, err := d.OpenFile("new", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("something")); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if d.Written() != 9 {
		t.Errorf("%d bytes written", d.Written())
	}
	if err := errors.Join(f.Close(), d.Discard()); err != nil {
		t.Error(err)
	}
	var _ disk.Dir = d
}
