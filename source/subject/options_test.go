package subject

import (
	"errors"
	"testing"

	"hb/source/mysqld/login"
	"hb/stream"
)

// TestPrepare: all mistakes in the flags are found, the first is the one that counts,
// and what the stages do is recorded.
func TestPrepare(t *testing.T) {
	f := Flags{Options: Options{Tmpdir: "/nowhere"}, Stages: stream.WriteFlags{Compress: true, EncryptTo: []string{"nobody"}}}
	_, mistakes := f.PrepareAll()
	if len(mistakes) != 2 {
		t.Fatalf("mistakes: %v", mistakes)
	}
	for _, err := range mistakes {
		if !isUsage(err) {
			t.Errorf("it is a %T: %v", err, err)
		}
	}
	if _, err := f.Prepare(); err == nil || err.Error() != mistakes[0].Error() {
		t.Errorf("the first is %v, want %v", err, mistakes[0])
	}
	f = Flags{Options: Options{Tmpdir: t.TempDir()}, Stages: stream.WriteFlags{CompressLevel: 5}}
	if stages, err := f.Prepare(); err != nil || stages.Compress.Level != 5 || !f.Stored.Compressed || f.Stored.Encrypted {
		t.Errorf("%v: %+v, stored %+v", err, stages, f.Stored)
	}
}

// TestResolve: a server that does not run is not a mistake in the command line.
func TestResolve(t *testing.T) {
	env := login.Env{Getenv: func(string) string { return "" }, System: []string{}, Sockets: []string{"/nowhere/socket"}}
	f := Flags{Connection: login.Flags{User: "u"}}
	_, err := f.Resolve(env)
	if _, stopped := errors.AsType[*login.NoSocketError](err); !stopped {
		t.Errorf("no socket: %v", err)
	}
	if isUsage(err) {
		t.Errorf("no socket is a mistake: %v", err)
	}
	f.Connection.Port = 1 << 20
	if _, err := f.Resolve(env); !isUsage(err) {
		t.Errorf("not a port: %v", err)
	}
}

func isUsage(err error) bool {
	_, ok := errors.AsType[*stream.UsageError](err)
	return ok
}

// TestSinceMistakes: what means nothing with --since is refused before hb connects.
func TestSinceMistakes(t *testing.T) {
	for name, f := range map[string]*Flags{
		"standard input": {Options: Options{Since: "-"}},
		"one file twice": {InfoFile: "/a", ManifestOut: "/a"},
	} {
		if _, err := f.Prepare(); !isUsage(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (&Flags{Options: Options{Since: "base"}, InfoFile: "/a", ManifestOut: "/b"}).Prepare(); err != nil {
		t.Error(err)
	}
}
