package testd

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hb/scripts/test.d/hbtest"
	"hb/stream/disk/disktest"
	"hb/stream/remote/remotetest"
	"hb/xbstream/xbtest"
)

// remoteChain is the sample chain at addresses, and in files of dir.
type remoteChain struct {
	t        *testing.T
	dir      string
	archives [][]byte
	servers  []*remotetest.Server
	names    []string // the addresses
	files    []string
}

func newRemoteChain(t *testing.T) *remoteChain {
	t.Helper()
	c := &remoteChain{t: t, dir: t.TempDir()}
	var err error
	if c.archives, err = sampleChain(false); err != nil {
		t.Fatal(err)
	}
	for i, archive := range c.archives {
		s := remotetest.New(t, archive)
		c.servers = append(c.servers, s)
		c.names = append(c.names, s.Address(fmt.Sprintf("%d.hb", i)))
		c.files = append(c.files, filepath.Join(c.dir, fmt.Sprintf("%d.hb", i)))
		if err := os.WriteFile(c.files[i], archive, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// run runs hb in the chain's directory. It shows no signature.
func (c *remoteChain) run(args ...string) hbtest.Result {
	c.t.Helper()
	cmd := hb(c.t, args...)
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+c.servers[0].Certificate(c.t)) // all have the same one
	cmd.Dir = c.dir
	r := hbtest.Finish(c.t, cmd)
	if strings.Contains(r.Stdout+r.Stderr, remotetest.Secret) {
		c.t.Errorf("%q: the signature is shown: %s", args, r.Stderr)
	}
	return r
}

// TestRemoteChain: a chain at addresses gives the same as one of files, although no
// connection gives more than two thirds of an archive: hb goes on where it broke off.
func TestRemoteChain(t *testing.T) {
	c := newRemoteChain(t)
	commands := func(archives []string, target string) [][]string {
		return [][]string{
			append([]string{"merge"}, archives...),
			append([]string{"verify", "--quiet"}, archives...),
			append([]string{"extract", "--quiet", "--apply", "-C", target}, archives...),
			{"list", "--manifest", archives[0]},
			{"list", "--manifest", archives[2]},
		}
	}
	local, broken, whole := commands(c.files, "local"), commands(c.names, "broken"), commands(c.names, "whole")
	requests := map[bool]int{}
	for i, args := range local {
		want := c.run(args...)
		if want.Code != 0 || want.Stdout == "" && !slices.Contains(args, "--quiet") {
			t.Fatalf("%q: exit code %d: %s", args, want.Code, want.Stderr)
		}
		for breaks, args := range map[bool][]string{false: whole[i], true: broken[i]} {
			for i, s := range c.servers {
				s.Do(func() {
					if s.Requests, s.Cut = nil, 0; breaks {
						s.Cut = len(c.archives[i]) * 2 / 3
					}
				})
			}
			if r := c.run(args...); r.Code != 0 || r.Stdout != want.Stdout {
				t.Errorf("%q: exit code %d, %d bytes, want %d: %s", args, r.Code, len(r.Stdout), len(want.Stdout), r.Stderr)
			}
			for _, s := range c.servers {
				s.Do(func() { requests[breaks] += len(s.Requests) })
			}
		}
	}
	if t.Logf("%d requests, %d where connections break", requests[false], requests[true]); requests[true] < requests[false]+5 {
		t.Errorf("hb went on %d times after a connection broke", requests[true]-requests[false])
	}
	tree := disktest.ReadTree(t, filepath.Join(c.dir, "local"))
	for _, target := range []string{"broken", "whole"} {
		if got := disktest.ReadTree(t, filepath.Join(c.dir, target)); len(tree) < 10 || !maps.Equal(tree, got) {
			t.Errorf("%s: %d files from addresses, %d from files, or others", target, len(got), len(tree))
		}
	}
}

// otherBase is a full backup of the sample's server that differs from it in one file.
func otherBase() ([]byte, error) {
	names, contents, last, err := xbtest.SampleFiles()
	if err != nil {
		return nil, err
	}
	contents["db/m.MYD"] = bytes.ToUpper(contents["db/m.MYD"])
	a := xbtest.NewArchiver(xbtest.SamplePage, xbtest.SampleStart, last)
	a.Interleave(names, contents, 2*xbtest.SamplePage)
	for _, name := range slices.Sorted(maps.Keys(contents)) {
		if !slices.Contains(names, name) {
			a.Put(name, contents[name])
		}
	}
	return a.Finish()
}

// TestRemoteChainReplaced: hb refuses a chain of which an archive is replaced between any two
// requests: the first archive by another backup of the same server, an increment by one of the
// same content.
func TestRemoteChainReplaced(t *testing.T) {
	other, err := otherBase()
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, command := range [][]string{{"merge"}, {"verify"}, {"extract", "-C", "target"}, {"list", "--manifest"}} {
		for which := range 3 {
			for at := 1; at < 4; at++ {
				c := newRemoteChain(t)
				s, names, replaced := c.servers[which], c.names, false
				if which > 0 { // an increment of this size comes in one answer, unless that breaks off
					s.Cut = len(s.Data) * 2 / 3
				}
				s.Before = func(request int) {
					if replaced = request > at; replaced && which == 0 {
						s.Data = other
					}
					if replaced {
						s.Tag = `"two"`
					}
				}
				if command[0] == "list" {
					names = names[which : which+1]
				}
				r := c.run(append(slices.Clone(command), names...)...)
				if !replaced {
					break // there are no more requests
				}
				refused++
				// It was replaced while hb read it; or, the first, before hb read it again.
				if r.Code != 1 && (r.Code != 11 || which > 0) {
					t.Errorf("%q: archive %d was replaced after %d requests: exit code %d: %s", command, which, at, r.Code, r.Stderr)
				}
			}
		}
	}
	if t.Logf("refused %d times", refused); refused < 20 {
		t.Error("hardly ever was an archive replaced between two requests")
	}
}
