package source

import (
	"context"
	"errors"
	"io"
	"testing"

	"hb/source/mysqld/contents"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/stream/disk"
	"hb/xbstream/innodb"
)

// TestBuildsAskedAgain: hb of 5.7 asks the server again which indexes it builds, when it
// begins to copy a tablespace in which one was being built when it asked last.
func TestBuildsAskedAgain(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL57), mysqldtest.Options{})
	srv := client.Open(t, s)
	defer srv.Close()
	b, err := newBackup(disk.OS, srv, io.Discard, Options{Parallel: 1, Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.close(context.Canceled); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	if err := errors.Join(b.preflight(t.Context()), b.family.openRedo(t.Context())); err != nil {
		t.Fatal(err)
	}
	five := b.family.(*mysql5Backup)
	const id = innodb.SpaceID(7)
	five.builds.asked, five.builds.list = b.follower.End(), map[uint64]contents.Build{40: {Space: id}}
	if got, err := five.buildsIn(t.Context(), id+1); err != nil || len(got) > 0 || len(five.builds.list) != 1 {
		t.Errorf("in another tablespace: %v, %v, and known are %v", got, err, five.builds.list)
	}
	if got, err := five.buildsIn(t.Context(), id); err != nil || len(got) > 0 {
		t.Errorf("the server builds nothing: %v, %v", got, err)
	}
}
