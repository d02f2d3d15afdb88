package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"hb/source/mysqld/mysqldtest"
	"hb/stream/zstdstage"
)

// pipe runs a program as a filter.
func pipe(t *testing.T, in []byte, name string, args ...string) []byte {
	t.Helper()
	out, err := tryPipe(in, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return out
}

func tryPipe(in []byte, name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	cmd.Stdin = bytes.NewReader(in)
	var out, msg bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &msg
	if err := cmd.Run(); err != nil {
		return nil, errors.Join(err, errors.New(msg.String()))
	}
	return out.Bytes(), nil
}

func TestRealZstdReadsOurs(t *testing.T) {
	mysqldtest.Heavy(t)
	zstd := mysqldtest.Program(t, "zstd")
	for _, size := range []int{0, 10, 100 << 10, zstdstage.MaxBlock + 1<<20} {
		data := archive(size)
		for _, c := range []Compression{{Level: 1, Threads: 1}, {Level: 1, Threads: 8}, {Threads: 4}, {Level: 8, Threads: 4}, {Level: 19, Threads: 4}} {
			if size > 1<<20 && c.Level == 19 && testing.Short() {
				continue
			}
			out := stages(t, WriteOptions{Compress: &c}, data)
			if got := pipe(t, out, zstd, "-dcq"); !bytes.Equal(got, data) {
				t.Errorf("size %d, %+v: zstd -d gives other bytes", size, c)
			}
		}
	}
}

// TestRealZstdBlocks asks zstd itself what frames there are, and cuts between two
// of them, which zstd cannot notice: hb must.
func TestRealZstdBlocks(t *testing.T) {
	zstd := mysqldtest.Program(t, "zstd")
	out := stages(t, WriteOptions{Compress: &Compression{Level: 1, Threads: 8}}, archive(3*zstdstage.MaxBlock-8))
	file := writeFile(t, "out.zst", string(out))
	text, err := exec.Command(zstd, "-lv", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, want := range []string{"# Zstandard Frames: 3", "# Skippable Frames: 6", "Check: XXH64", fmt.Sprintf("(%d B)", 3*zstdstage.MaxBlock)} {
		if !strings.Contains(string(text), want) {
			t.Errorf("zstd -lv does not say %q:\n%s", want, text)
		}
	}
	cut := out[:len(out)-(12+8+12*(1+2*3+1)+9)] // without end and the seek table
	if _, err := tryPipe(cut, zstd, "-dcq"); err != nil {
		t.Fatalf("this is no cut between frames: %v", err)
	}
	if _, _, err := readAll(bytes.NewReader(cut), Options{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut between frames: %v", err)
	}
}

func TestRealZstdOursRead(t *testing.T) {
	data := archive(3 << 20)
	for _, args := range [][]string{
		{"zstd", "-qc"}, {"zstd", "-qc", "-1"}, {"zstd", "-qc", "-19"}, {"zstd", "-qc", "-T0"}, {"zstd", "-qc", "--long=27"}, {"zstd", "-qc", "--no-check"}, {"pzstd", "-qc", "-p", "4"},
	} {
		out := pipe(t, data, mysqldtest.Program(t, args[0]), args[1:]...)
		got, names, err := readAll(bytes.NewReader(out), Options{})
		if err != nil || !bytes.Equal(got, data) || len(names) != 1 {
			t.Errorf("%v: %d bytes, %v", args, len(got), err)
		}
	}
	out := pipe(t, data, mysqldtest.Program(t, "zstd"), "-qc", "--ultra", "-1", "--long=31")
	if _, _, err := readAll(bytes.NewReader(out), Options{}); err == nil {
		t.Error("a window of 2 GiB is accepted")
	}
}

func TestRealAge(t *testing.T) {
	ageTool, keygen := mysqldtest.Program(t, "age"), mysqldtest.Program(t, "age-keygen")
	keyFile := writeFile(t, "key", string(pipe(t, nil, keygen)))
	public := strings.TrimSpace(string(pipe(t, nil, keygen, "-y", keyFile)))
	to, err := ParseRecipient(public)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := ParseIdentitiesFile(keyFile, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 64<<10 - 8, 64 << 10, 3 << 20} {
		data := archive(size)
		out := stages(t, WriteOptions{Recipients: []age.Recipient{to}}, data)
		if got := pipe(t, out, ageTool, "-d", "-i", keyFile); !bytes.Equal(got, data) {
			t.Errorf("size %d: age -d gives other bytes", size)
		}
		for _, args := range [][]string{{"-e", "-r", public}, {"-e", "-a", "-r", public}} {
			out := pipe(t, data, ageTool, args...)
			got, _, err := readAll(bytes.NewReader(out), Options{Identities: ids})
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("size %d, age %v: %v", size, args, err)
			}
		}
	}
}

func TestRealAgeSSH(t *testing.T) {
	ageTool := mysqldtest.Program(t, "age")
	private, public := sshKey(t, "")
	keyFile := writeFile(t, "id_ed25519", private)
	to, err := ParseRecipient(public)
	if err != nil {
		t.Fatal(err)
	}
	data := archive(1000)
	out := stages(t, WriteOptions{Recipients: []age.Recipient{to}}, data)
	if got := pipe(t, out, ageTool, "-d", "-i", keyFile); !bytes.Equal(got, data) {
		t.Error("age -d gives other bytes")
	}
	ids, err := ParseIdentitiesFile(keyFile, nil)
	if err != nil {
		t.Fatal(err)
	}
	out = pipe(t, data, ageTool, "-e", "-r", public)
	if got, _, err := readAll(bytes.NewReader(out), Options{Identities: ids}); err != nil || !bytes.Equal(got, data) {
		t.Errorf("what age encrypts: %v", err)
	}
}

// TestRealBoth is the pipe that the manual promises: age -d | zstd -d.
func TestRealBoth(t *testing.T) {
	ageTool, keygen, zstd := mysqldtest.Program(t, "age"), mysqldtest.Program(t, "age-keygen"), mysqldtest.Program(t, "zstd")
	keyFile := writeFile(t, "key", string(pipe(t, nil, keygen)))
	ids, err := ParseIdentitiesFile(keyFile, nil)
	if err != nil {
		t.Fatal(err)
	}
	public := strings.TrimSpace(string(pipe(t, nil, keygen, "-y", keyFile)))
	to, err := ParseRecipient(public)
	if err != nil {
		t.Fatal(err)
	}
	data := archive(3 << 20)
	out := stages(t, WriteOptions{Compress: &Compression{}, Recipients: []age.Recipient{to}}, data)
	if got := pipe(t, pipe(t, out, ageTool, "-d", "-i", keyFile), zstd, "-dcq"); !bytes.Equal(got, data) {
		t.Error("age -d | zstd -d gives other bytes")
	}
	out = pipe(t, pipe(t, pipe(t, data, zstd, "-qc"), ageTool, "-e", "-a", "-r", public), zstd, "-qc")
	got, names, err := readAll(bytes.NewReader(out), Options{Identities: ids})
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("zstd | age -a | zstd: %v", err)
	}
	if s := strings.Join(names, " "); s != "zstd armor age zstd" {
		t.Errorf("stages %q", s)
	}
}

// TestRealZstdSeekTable reads the seek table as zstd's document describes it, and has
// zstd decompress each frame by itself from where the table says that it is.
func TestRealZstdSeekTable(t *testing.T) {
	zstd := mysqldtest.Program(t, "zstd")
	data := archive(2*zstdstage.MaxBlock + 12345)
	var out bytes.Buffer
	w, err := Create(&out, WriteOptions{Compress: &Compression{Threads: 3}})
	if err != nil {
		t.Fatal(err)
	}
	cuts := []int{100, 5000, zstdstage.MaxBlock + 7, len(data)} // and where a block is full
	for i, cut := range cuts {
		from := 0
		if i > 0 {
			from = cuts[i-1]
		}
		if _, err := w.Write(data[from:cut]); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Cut(), w.Cut()); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b := out.Bytes()
	foot := b[len(b)-9:]
	frames := int(binary.LittleEndian.Uint32(foot))
	table := b[len(b)-9-12*frames-8:]
	if foot[4] != 0x80 || binary.LittleEndian.Uint32(foot[5:]) != 0x8F92EAB1 ||
		binary.LittleEndian.Uint32(table) != 0x184D2A5E || int(binary.LittleEndian.Uint32(table[4:])) != len(table)-8 {
		t.Fatalf("the table is % x", table)
	}
	var plain []int
	at, got := 0, []byte(nil)
	for entry := table[8 : len(table)-9]; len(entry) > 0; entry = entry[12:] {
		packed, n := int(binary.LittleEndian.Uint32(entry)), int(binary.LittleEndian.Uint32(entry[4:]))
		part := pipe(t, b[at:at+packed], zstd, "-dcq") // which verifies the frame's checksum
		if len(part) != n {
			t.Fatalf("the frame at %d holds %d bytes, %d by the table", at, len(part), n)
		}
		want := []byte{0x99, 0xe9, 0xd8, 0x51} // of nothing: xxHash's own test value
		if n > 0 {
			want = b[at+packed-4 : at+packed]
			plain = append(plain, n)
		}
		if !bytes.Equal(entry[8:12], want) {
			t.Errorf("checksum % x of the frame at %d, want % x", entry[8:12], at, want)
		}
		at += packed
		got = append(got, part...)
	}
	if at != len(b)-len(table) || !bytes.Equal(got, data) {
		t.Errorf("the frames end at byte %d of %d and hold %d bytes of %d", at, len(b)-len(table), len(got), len(data))
	}
	want := []int{100, 4900, zstdstage.MaxBlock - 4993, zstdstage.MaxBlock, len(data) - 2*zstdstage.MaxBlock - 7}
	if !slices.Equal(plain, want) {
		t.Errorf("the frames hold %d bytes, want %d", plain, want)
	}
}
