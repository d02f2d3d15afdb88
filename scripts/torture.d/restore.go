package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"hb/scripts/torture.d/load"
)

// A copied is a directory that was restored in one way.
type copied struct {
	way string
	dir string
	// exact: hb recovered it, so that its files are those of every other such copy,
	// byte for byte.
	exact bool
}

// A way restores the archive into a directory. One that an archive cannot go
// reports false.
type way struct {
	name  string
	exact bool
	do    func(ctx context.Context, r *round, dir string) (bool, error)
}

const (
	small = "--memory=1MiB"
	large = "--memory=512MiB"
)

var ways = []way{
	{"apply", true, func(ctx context.Context, r *round, dir string) (bool, error) {
		if err := r.extract(ctx, dir); err != nil {
			return true, err
		}
		return true, r.must(ctx, append([]string{"apply", "--no-defaults", large, dir}, r.placing()...)...)
	}},
	{"apply-small", true, func(ctx context.Context, r *round, dir string) (bool, error) {
		if err := r.extract(ctx, dir); err != nil {
			return true, err
		}
		return true, r.must(ctx, append([]string{"apply", "--no-defaults", small, "--parallel=1", dir}, r.placing()...)...)
	}},
	{"one-pass", true, func(ctx context.Context, r *round, dir string) (bool, error) {
		return true, r.must(ctx, append([]string{"extract", "--no-defaults", "--apply", large, "-C", dir, r.identity(), r.archive()}, r.placing()...)...)
	}},
	{"one-pass-small", true, func(ctx context.Context, r *round, dir string) (bool, error) {
		return true, r.must(ctx, append([]string{"extract", "--no-defaults", "--apply", small, "-C", dir, r.identity(), r.archive()}, r.placing()...)...)
	}},
	{"killed-apply", true, func(ctx context.Context, r *round, dir string) (bool, error) {
		if err := r.extract(ctx, dir); err != nil {
			return true, err
		}
		return r.resumed(ctx, dir, "KILL", "apply", "--no-defaults", dir)
	}},
	{"powerless-apply", true, func(ctx context.Context, r *round, dir string) (bool, error) {
		if err := r.extract(ctx, dir); err != nil {
			return true, err
		}
		return r.resumed(ctx, dir, "POWER", "apply", "--no-defaults", dir)
	}},
	{"powerless-one-pass", true, func(ctx context.Context, r *round, dir string) (bool, error) {
		return r.resumed(ctx, dir, "POWER", "extract", "--no-defaults", "--apply", "-C", dir, r.identity(), r.archive())
	}},
	{"failing-apply", true, func(ctx context.Context, r *round, dir string) (bool, error) {
		if err := r.extract(ctx, dir); err != nil {
			return true, err
		}
		return r.resumed(ctx, dir, []string{"EIO", "ENOSPC"}[int(r.at[5]*2)], "apply", "--no-defaults", dir)
	}},
	{"killed-one-pass", true, func(ctx context.Context, r *round, dir string) (bool, error) {
		return r.resumed(ctx, dir, "KILL", "extract", "--no-defaults", "--apply", "-C", dir, r.identity(), r.archive())
	}},
	{"by-server", false, func(ctx context.Context, r *round, dir string) (bool, error) {
		if err := r.extract(ctx, dir); err != nil {
			return true, err
		}
		code, said, err := r.command(ctx, r.hb.plain, "", append([]string{"apply", "--no-defaults", "--by-server", dir}, r.placing()...)...)
		if err == nil && code != 0 && strings.Contains(said, "apply it without --by-server") {
			code, said, err = r.command(ctx, r.hb.plain, "", append([]string{"apply", "--no-defaults", dir}, r.placing()...)...)
		}
		return true, expectZero(code, said, err)
	}},
	{"peer", false, restoreByPeer},
}

func (r *round) extract(ctx context.Context, dir string) error {
	return r.must(ctx, "extract", "--no-defaults", "-C", dir, r.identity(), r.archive())
}

// must runs hb and demands that it succeeds.
func (r *round) must(ctx context.Context, args ...string) error {
	return expectZero(r.command(ctx, r.hb.plain, "", args...))
}

func expectZero(code int, said string, err error) error {
	if err == nil && code != 0 {
		err = fmt.Errorf("the backup ended with 0, and its restore ended with %d:\n%s", code, said)
	}
	return err
}

// resumed runs hb with a fault at an operation that changes the directory, up to
// three times, and then hb apply: that goes on to the end, or refuses the
// directory because the archive had not arrived.
func (r *round) resumed(ctx context.Context, dir, action string, args ...string) (bool, error) {
	args = append(args, r.placing()...)
	for try := range 3 {
		rule := fmt.Sprintf("change:*:%d:%s", ladder(r.at[try+1], 1500), action)
		if int(r.at[try+1]*1e6)%2 == 0 {
			rule = fmt.Sprintf("change:*.ibd:%d:%s", ladder(r.at[try+1], 60), action)
		}
		switch action {
		case "POWER":
			rule += fmt.Sprintf("=%d", r.loadSeed+uint64(try))
		case "EIO", "ENOSPC":
			rule = strings.Replace(rule, ":"+action, "+:"+action, 1)
		}
		code, said, err := r.command(ctx, r.hb.faulty, rule, args...)
		if err != nil {
			return true, err
		}
		if code == 0 {
			break
		}
		if code == 2 {
			return true, fmt.Errorf("hb %s ended with 2:\n%s", args[0], said)
		}
		if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) && args[0] == "extract" {
			return false, nil // it ended before it made the directory
		}
		if err := r.heldOff(ctx, dir); err != nil {
			return true, err
		}
		args = append([]string{"apply", "--no-defaults", dir}, r.placing()...)
	}
	code, said, err := r.command(ctx, r.hb.plain, "", append([]string{"apply", "--no-defaults", dir}, r.placing()...)...)
	if err == nil && code != 0 && strings.Contains(said, "extract") {
		return false, nil // the archive had not arrived
	}
	if err == nil && code == 8 && strings.Contains(said, "already") {
		return true, nil
	}
	if err == nil && code == 7 && action == "POWER" && strings.Contains(said, "the copy is damaged") {
		return false, nil // a page is torn, and its checksum told
	}
	return true, expectZero(code, said, err)
}

// heldOff demands that no server starts on a directory in which pages are being
// recovered. It looks once in a round.
func (r *round) heldOff(ctx context.Context, dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, "hb-doublewrite")); err != nil || r.looked {
		return load.IgnoreGone(err)
	}
	r.looked = true
	copied := dir + ", half"
	if err := r.copyDir(ctx, dir, copied); err != nil {
		return err
	}
	s, err := r.launchRestored(ctx, copied, "half")
	if err == nil {
		err = fmt.Errorf("a server starts on a directory that hb apply was killed in")
		return errors.Join(err, s.Kill())
	}
	if err := r.stateLost(ctx, copied); err != nil {
		return err
	}
	return os.RemoveAll(copied)
}

// stateLost demands that hb apply does not finish a directory that no longer says
// how far it is, and leaves it held.
func (r *round) stateLost(ctx context.Context, dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, "hb-applied.json")); err == nil {
		return nil // everything was recovered; only hb's own files had to go
	}
	if err := os.Remove(filepath.Join(dir, "hb-applying")); err != nil {
		return load.IgnoreGone(err)
	}
	code, said, err := r.command(ctx, r.hb.plain, "", append([]string{"apply", "--no-defaults", dir}, r.placing()...)...)
	if err != nil {
		return err
	}
	st, err := os.Lstat(filepath.Join(dir, "ibdata1"))
	if err == nil && (code == 0 || st.Mode().IsRegular()) {
		err = fmt.Errorf("hb apply of a directory without hb-applying ended with %d, and its ibdata1 is a %v:\n%s", code, st.Mode(), said)
	}
	return err
}

// restoreByPeer has mariadb-backup do it all, unless hb has warned of that.
func restoreByPeer(ctx context.Context, r *round, dir string) (bool, error) {
	if strings.Contains(r.told, "imported during the backup") {
		return false, nil
	}
	root := r.source.Root
	if slices.Contains(r.plan.backup, "--compress") {
		if err := r.extract(ctx, dir); err != nil {
			return true, err
		}
	} else {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return true, err
		}
		in, err := os.Open(r.archive())
		if err != nil {
			return true, err
		}
		defer in.Close()
		cmd := root.Tool("mbstream", "-x", "-C", dir)
		cmd.Stdin = in
		if err := r.peer(ctx, cmd); err != nil {
			return true, err
		}
	}
	return true, r.peer(ctx, root.Tool("mariadb-backup", "--prepare", "--target-dir="+dir))
}

func (r *round) peer(_ context.Context, cmd *exec.Cmd) error {
	code, said, err := r.runLogged(cmd, cmd.Args[1])
	return expectZero(code, said, err)
}

// verify demands that hb verify accepts what hb backup calls complete.
func (r *round) verify(ctx context.Context) error {
	args := []string{"verify", "--no-defaults"}
	if r.at[5] < 0.5 {
		args = append(args, "--replay")
	}
	code, said, err := r.command(ctx, r.hb.plain, "", append(args, r.identity(), r.archive())...)
	if err == nil && code != 0 && !(code == 12 && r.keyring() && strings.Contains(said, "that the server was just making")) {
		err = fmt.Errorf("hb backup ended with 0, and hb verify with %d:\n%s", code, said)
	}
	if err != nil || r.brief {
		return err
	}
	return r.hurtArchive(ctx)
}

// lostPage reports whether hb refused a restore for a page that is zero: a backup
// cannot tell where the server has changed the file's page map since (concepts.md), and
// then redo for part of the page does.
func lostPage(err error) bool {
	return err != nil && strings.Contains(err.Error(), "hb_t_victim/") && strings.Contains(err.Error(), "it says it is page 0 of tablespace 0")
}

// restore restores the archive in all of the plan's ways.
func (r *round) restore(ctx context.Context) (copies []copied, err error) {
	for _, name := range r.ways {
		w := ways[slices.IndexFunc(ways, func(w way) bool { return w.name == name })]
		dir := filepath.Join(r.dir, "restored by "+name)
		ok, err := w.do(ctx, r, dir)
		if lostPage(err) && r.plan.fault == "page zeroed" {
			ok, err = false, nil
		}
		if err != nil {
			return nil, fmt.Errorf("restore by %s: %w", name, err)
		}
		if !ok {
			r.note("no copy by %s", name)
			continue
		}
		copies = append(copies, copied{name, dir, w.exact})
	}
	return copies, nil
}

// placing are the options that say where the restored server has its binary log, if
// the source had it elsewhere.
func (r *round) placing() []string {
	if !r.has("binary log elsewhere") {
		return nil
	}
	return []string{"--log-bin=binlog"}
}
