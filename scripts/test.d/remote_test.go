package testd

import (
	"bytes"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hb/scripts/test.d/hbtest"
	"hb/stream"
	"hb/stream/disk/disktest"
	"hb/stream/ranges"
	"hb/stream/remote/remotetest"
	"hb/xbstream/xbtest"
)

// remoteArchive is an archive of 6 MiB, in which two files interleave.
func remoteArchive(t *testing.T) (archive []byte, contents map[string][]byte) {
	t.Helper()
	names, contents, last, err := xbtest.SampleFiles()
	if err != nil {
		t.Fatal(err)
	}
	contents["db/big.MYD"], contents["db/other.MYD"] = make([]byte, 4<<20), make([]byte, 2<<20)
	rng := rand.NewChaCha8([32]byte{11})
	_, _ = rng.Read(contents["db/big.MYD"])
	_, _ = rng.Read(contents["db/other.MYD"])
	a := xbtest.NewArchiver(xbtest.SamplePage, xbtest.SampleStart, last)
	a.Interleave(append(names, "db/big.MYD", "db/other.MYD"), contents, 256<<10)
	for _, name := range slices.Sorted(maps.Keys(contents)) {
		if !slices.Contains(names, name) && !strings.HasPrefix(name, "db/") {
			a.Put(name, contents[name])
		}
	}
	archive, err = a.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return archive, contents
}

// TestRemote reads archives over https, from a server that breaks connections off at
// random bytes: list, verify, and extract of all and of one file, which asks for little
// else. Nothing that hb writes shows the signature in the address.
func TestRemote(t *testing.T) {
	archive, contents := remoteArchive(t)
	var packed bytes.Buffer
	w, err := stream.Create(&packed, stream.WriteOptions{Compress: &stream.Compression{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(archive); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"plain.hb": archive, "packed.hb.zst": packed.Bytes()} {
		s := remotetest.New(t, data)
		certificate := s.Certificate(t)
		dir := t.TempDir()
		run := func(args ...string) hbtest.Result {
			t.Helper()
			s.Do(func() { s.Sent, s.Requests = 0, nil })
			cmd := hb(t, append([]string{"--log-format", "json"}, args...)...)
			cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+certificate)
			cmd.Dir = dir
			got := hbtest.Finish(t, cmd)
			if strings.Contains(got.Stdout+got.Stderr, remotetest.Secret) {
				t.Errorf("%s: the signature is shown: %s", args, got.Stderr)
			}
			if got.Code != 0 {
				t.Errorf("%s: exit code %d: %s", args, got.Code, got.Stderr)
			}
			return got
		}
		s.Cut = 4 << 20
		if got := run("list", s.Address(name)); !strings.Contains(got.Stdout, "db/big.MYD") {
			t.Errorf("%s: %s", name, got.Stdout)
		}
		run("verify", s.Address(name))
		run("extract", s.Address(name)) // into a directory of the archive's name
		whole := disktest.ReadTree(t, filepath.Join(dir, strings.TrimSuffix(strings.TrimSuffix(name, ".zst"), ".hb")))
		for path, content := range contents {
			if whole[path] != string(content) {
				t.Errorf("%s: %s has %d other bytes", name, path, len(whole[path]))
			}
		}
		s.Cut = 0
		got := run("extract", "--files", "db/other.MYD", "-C", "one", s.Address(name))
		one := disktest.ReadTree(t, filepath.Join(dir, "one"))
		if one["db/other.MYD"] != string(contents["db/other.MYD"]) || len(one) != 2 {
			t.Errorf("%s: %d files, %d bytes", name, len(one), len(one["db/other.MYD"]))
		}
		// Of the plain archive: both ends, and the file's chunks, apart by one of the other.
		if most := ranges.HeadSize + ranges.TailSize(int64(len(data))) + 16*(256<<10+100); name == "plain.hb" && (s.Sent > most || s.Sent < 2<<20) {
			t.Errorf("%d bytes sent of %d, want at most %d", s.Sent, len(data), most)
		}
		if read := bytesRead(t, got.Stderr); read > s.Sent || read < s.Sent-1<<20 {
			t.Errorf("%s: %d bytes read, %d sent", name, read, s.Sent)
		}
	}
}

func bytesRead(t *testing.T, messages string) int64 {
	t.Helper()
	for _, m := range slices.Backward(hbtest.Messages(t, messages)) {
		if n, ok := m["bytes_read"].(json.Number); ok {
			read, err := n.Int64()
			if err != nil {
				t.Fatal(err)
			}
			return read
		}
	}
	t.Fatalf("no bytes_read: %s", messages)
	return 0
}
