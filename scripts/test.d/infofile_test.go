package testd

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"hb/scripts/test.d/hbtest"
	"hb/source/infofile"
	"hb/source/mysqld/mysqldtest"
	"hb/stream/disk/disktest"
	"hb/xbstream/metadata"
)

// TestInfoFile: what --info-file says is what became of the backup, and standard
// output has those bytes and no other.
func TestInfoFile(t *testing.T) {
	mysqldtest.Each(t, faultServers, func(t *testing.T, root *mysqldtest.Root) {
		s := filled(t, root, mysqldtest.Options{Binlog: true})
		dir := t.TempDir()
		path, archive := filepath.Join(dir, "info"), filepath.Join(dir, "archive")
		args := []string{"backup", "--no-defaults", "-u", "root", "-S", s.Socket, "--info-file", path, "--throttle=20MiB"}

		out, err := os.Create(archive)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		cmd := hb(t, append(args, "--compress")...)
		cmd.Stdout = out
		hbtest.Succeed(t, cmd)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		hbtest.CheckObject(t, "info", text)
		i := disktest.ReadJSON[infofile.Info](t, path)
		st, err := out.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if i.Status != infofile.Complete || *i.ExitCode != 0 || i.Bytes != st.Size() || i.ArchiveBytes <= i.Bytes || !i.Options.Compressed || i.Options.Encrypted ||
			!strings.Contains(i.Server, root.Version) || len(i.Locks) == 0 || i.Seconds <= 0 || i.Phase != "" || i.Error != "" {
			t.Errorf("the archive has %d bytes: %+v", st.Size(), i)
		}
		copied := filepath.Join(dir, "copy")
		hbtest.Succeed(t, hb(t, "extract", "-C", copied, archive))
		m, err := metadata.ReadManifestHead(os.DirFS(copied))
		if err != nil || !reflect.DeepEqual(m, i.Manifest) {
			t.Errorf("%v: the manifest is\n%+v\nand in the file\n%+v", err, m, i.Manifest)
		}

		for _, test := range []struct {
			signal syscall.Signal
			code   int
			status infofile.Status
		}{{syscall.SIGTERM, 130, infofile.Failed}, {syscall.SIGKILL, -1, infofile.Running}} {
			cmd := hb(t, args...)
			part := filepath.Join(dir, "part")
			interrupted(t, cmd, part, func() {
				if i := disktest.ReadJSON[infofile.Info](t, path); i.Status != infofile.Running || i.PID != cmd.Process.Pid || i.ExitCode != nil {
					t.Errorf("it runs: %+v", i)
				}
				if err := cmd.Process.Signal(test.signal); err != nil {
					t.Fatal(err)
				}
			}, func(r hbtest.Result) {
				i := disktest.ReadJSON[infofile.Info](t, path)
				if r.Code != test.code || i.Status != test.status {
					t.Errorf("%v: exit code %d, %+v", test.signal, r.Code, i)
				}
				if test.status != infofile.Failed {
					return
				}
				st, err := os.Stat(part)
				if err != nil || i.Bytes != st.Size() || *i.ExitCode != test.code || !slices.Contains([]string{"listing tablespaces", "copying tablespaces"}, i.Phase) || i.Manifest != nil ||
					r.Stderr != "hb: "+i.Error+"\n" {
					t.Errorf("%v, %+v: %+v; %s", err, st, i, r.Stderr)
				}
			})
		}
	})
}

// TestInfoFileRefused: a backup that did not come to a server says so too, and one
// that cannot say anything does not begin.
func TestInfoFileRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "info")
	for _, test := range []struct {
		args []string
		code int
	}{
		{[]string{"-S", path + "/none", "-u", "nobody"}, 3},
		{[]string{"--encrypt-to=nonsense"}, 2},
		{[]string{"--tmpdir=/nowhere"}, 2},
	} {
		r := hbtest.Finish(t, hb(t, append([]string{"backup", "--no-defaults", "--info-file", path, "--password=sesame"}, test.args...)...))
		i := disktest.ReadJSON[infofile.Info](t, path)
		if r.Code != test.code || i.Status != infofile.Failed || i.ExitCode == nil || *i.ExitCode != test.code || i.Error == "" || r.Stderr != "hb: "+i.Error+"\n" ||
			strings.Contains(i.Command, "sesame") || !strings.Contains(i.Command, "--info-file") {
			t.Errorf("%v: exit code %d, %s; %+v", test.args, r.Code, r.Stderr, i)
		}
	}
	for _, path := range []string{"/nowhere/info", "/dev/null", t.TempDir()} {
		if r := hbtest.Finish(t, hb(t, "backup", "--no-defaults", "--info-file", path)); r.Code != 2 || !strings.Contains(r.Stderr, path) || r.Stdout != "" {
			t.Errorf("%s: exit code %d, %s", path, r.Code, r.Stderr)
		}
	}
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := hb(t, "backup", "--no-defaults", "--info-file", path)
	cmd.Stdout = out
	if r := hbtest.Finish(t, cmd); r.Code != 2 || !strings.Contains(r.Stderr, "where the archive goes") {
		t.Errorf("over the archive: exit code %d, %s", r.Code, r.Stderr)
	}
}

// TestSettingsAlone: a backup that nothing on the command line says anything of.
func TestSettingsAlone(t *testing.T) {
	s := filled(t, mysqldtest.Need(t, mysqldtest.MariaDB1011), mysqldtest.Options{})
	dir := t.TempDir()
	info, file := filepath.Join(dir, "info"), filepath.Join(dir, "my.cnf")
	key := filepath.Join(dir, "key")
	recipient := regexp.MustCompile("age1[0-9a-z]+").FindString(hbtest.Succeed(t, exec.Command(mysqldtest.Program(t, "age-keygen"), "-o", key)).Stderr)
	if err := os.WriteFile(file, []byte("[hb]\nuser=nobody\nsocket="+s.Socket+"\ninfo-file="+info+"\nencrypt-to="+recipient+"\nidentity="+key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := hb(t, "backup")
	set := []string{"HB_DEFAULTS_FILE=" + file, "HB_USER=root", "HB_COMPRESS=1", "HB_QUIET=1"}
	cmd.Env = append(cmd.Env, set...)
	r := hbtest.Succeed(t, cmd)
	i := disktest.ReadJSON[infofile.Info](t, info)
	if r.Stderr != "" || i.Status != infofile.Complete || !i.Options.Compressed || !i.Options.Encrypted || i.Bytes != int64(len(r.Stdout)) {
		t.Errorf("%d bytes, %q; %+v", len(r.Stdout), r.Stderr, i)
	}
	cmd = hb(t, "list")
	cmd.Env, cmd.Stdin = append(cmd.Env, set...), strings.NewReader(r.Stdout)
	if r := hbtest.Succeed(t, cmd); !strings.Contains(r.Stdout, "d/t.ibd") || r.Stderr != "" {
		t.Errorf("list says %q, %q", r.Stdout, r.Stderr)
	}
}
