//go:build linux

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"filippo.io/age"
)

// smallRows is how many rows a table of about 10 MB has, and lostRows one of 50 MB.
const (
	smallRows = 10 << 20 / rowBytes
	lostRows  = 50 << 20 / rowBytes
)

// oneTable measures how much of an archive has to be read for one table of it.
func (m *mariadb) oneTable(ctx context.Context) error {
	if !m.wants("one-table") {
		return nil
	}
	if err := fillTable(ctx, m.server.DB(), "bench.small", smallRows); err != nil {
		return err
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return err
	}
	dir, to := filepath.Join(m.dir, "archives"), filepath.Join(m.dir, "to")
	defer removeAll(dir, to)
	key := filepath.Join(dir, "key")
	err = errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(key, []byte(identity.String()+"\n"), 0o600))
	if err != nil {
		return err
	}
	c := &contest{name: "one-table", title: "unpack one table of 10 MB", section: moved}
	for _, a := range []struct {
		name    string
		backup  []string
		extract []string
	}{
		{"plain", nil, nil},
		{"zstd", []string{"--compress"}, nil},
		{"age", []string{"--encrypt-to", identity.Recipient().String()}, []string{"-i", key}},
	} {
		archive := filepath.Join(dir, a.name)
		if _, err := pipeline(ctx, "", intoFile(archive), m.hbBackup(m.server, a.backup...)); err != nil {
			return err
		}
		c.cached = append(c.cached, archive)
		extract := append([]string{m.hb, "extract", "--quiet", "-C", to}, a.extract...)
		side := func(name string, flags ...string) *side {
			return &side{name: name + ", " + a.name, prepare: func(context.Context) error { return emptyDir(to) },
				run: func(ctx context.Context) (usage, error) {
					return run(ctx, append(append(extract[:len(extract):len(extract)], flags...), archive)...)
				}}
		}
		one := len(c.sides)
		c.sides = append(c.sides, side("hb extract --files", "--files", "bench/small.*"), side("hb extract"))
		c.bars = append(c.bars, bar{figure: wall, side: one, peer: one + 1, limit: 0.05})
	}
	return m.hold(ctx, c)
}

// tableBack measures what it takes until one table of a full archive can be imported.
func (m *mariadb) tableBack(ctx context.Context) error {
	if !m.wants("table-back") {
		return nil
	}
	if err := fillTable(ctx, m.server.DB(), "bench.lost", lostRows); err != nil {
		return err
	}
	archive, to := filepath.Join(m.dir, "archive"), filepath.Join(m.dir, "to")
	defer removeAll(archive, to)
	if _, err := pipeline(ctx, "", intoFile(archive), m.hbBackup(m.server)); err != nil {
		return err
	}
	fresh := func(context.Context) error { return emptyDir(to) }
	return m.hold(ctx, &contest{name: "table-back", title: "make one table of 50 MB ready for IMPORT", section: moved, cached: []string{archive},
		bars: []bar{against(1, wall, 0.1), within(peak, 256<<20)},
		sides: []*side{
			{name: "hb extract --table bench.lost", prepare: fresh, run: func(ctx context.Context) (usage, error) {
				return run(ctx, m.hb, "extract", "--quiet", "-C", to, "--table", "bench.lost", archive)
			}},
			{name: "mbstream -x, mariadb-backup --prepare --export", prepare: fresh, run: func(ctx context.Context) (usage, error) {
				return inTurn(
					func() (usage, error) { return unpack(ctx, archive, m.server.Tool("mbstream", "-x", "-C", to).Args) },
					func() (usage, error) {
						return run(ctx, m.server.Tool("mariadb-backup", "--prepare", "--export", "--use-memory=1G", "--target-dir="+to).Args...)
					})
			}},
		}})
}
