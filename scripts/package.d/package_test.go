package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
)

// TestTargets: hb can be compiled for all systems that it is built for. Types are
// checked from the source, which takes a fraction of the time that compiling does;
// the long form lets go vet look at it as well.
func TestTargets(t *testing.T) {
	t.Chdir("../..")
	for _, target := range targets {
		list, err := target.packages()
		if err != nil {
			t.Fatal(err)
		}
		if ours, err := target.check(list); err != nil || ours < 20 {
			t.Errorf("%v: %d packages of hb's: %v", target, ours, err)
		}
		if mysqldtest.Long() {
			target.vet(t, list)
		}
	}
}

// check checks the types of packages, each behind those that it imports, and
// returns how many are hb's. Those of others are taken to be right.
func (t target) check(list []goPackage) (ours int, err error) {
	set := token.NewFileSet()
	done := map[string]*types.Package{"unsafe": types.Unsafe}
	for _, p := range list {
		if p.ImportPath == "unsafe" {
			continue
		}
		own := p.Module != nil && p.Module.Main
		if own {
			ours++
		}
		var files []*ast.File
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(set, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				return ours, err
			}
			files = append(files, f)
		}
		config := types.Config{IgnoreFuncBodies: !own, Sizes: types.SizesFor("gc", t.arch), Importer: importer(func(path string) (*types.Package, error) {
			if mapped := p.ImportMap[path]; mapped != "" {
				path = mapped
			}
			if done[path] == nil {
				return nil, fmt.Errorf("%s is not there", path)
			}
			return done[path], nil
		})}
		if done[p.ImportPath], err = config.Check(p.ImportPath, set, files, nil); err != nil {
			return ours, err
		}
	}
	return ours, nil
}

// vet has go vet look at the packages that are hb's, without their tests, which are
// for Linux.
func (t target) vet(tb testing.TB, list []goPackage) {
	var args []string
	without := make(map[string]string)
	for _, p := range list {
		if p.Module == nil || !p.Module.Main {
			continue
		}
		args = append(args, p.ImportPath)
		tests, err := filepath.Glob(filepath.Join(p.Dir, "*_test.go"))
		if err != nil {
			tb.Fatal(err)
		}
		for _, name := range tests {
			without[name] = ""
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": without})
	overlay := filepath.Join(tb.TempDir(), "overlay.json")
	if err == nil {
		err = os.WriteFile(overlay, text, 0o600)
	}
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command("go", append([]string{"vet", "-trimpath", "-overlay", overlay}, args...)...)
	cmd.Env = t.environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Errorf("%v: go vet: %v\n%s", t, err, out)
	}
}

type importer func(string) (*types.Package, error)

func (i importer) Import(path string) (*types.Package, error) { return i(path) }

func TestVersions(t *testing.T) {
	for describe, want := range map[string]string{
		"v1.2.3": "1.2.3", "v1.2.3-rc1": "1.2.3-rc1", "v1.2.3-5-g0123abc": "1.2.3+5.g0123abc",
		"v1.2-rc1-12-gabc": "1.2-rc1+12.gabc", "": "0.0.0+20260102.g0123456789ab",
	} {
		s := &source{commit: "0123456789abcdef", time: time.Date(2026, 1, 2, 23, 0, 0, 0, time.UTC)}
		for _, modified := range []bool{false, true} {
			s.modified = modified
			got := s.versionOf(describe)
			if !versions.MatchString(got) || strings.HasSuffix(got, "modified") != modified {
				t.Errorf("%q (modified: %v): %q", describe, modified, got)
			}
			if !modified && got != want {
				t.Errorf("%q: %q, not %q", describe, got, want)
			}
		}
	}
	for _, bad := range []string{"", "v1", "1.2-3-4", "1 2", "../1", "1.2.3\n"} {
		if versions.MatchString(bad) {
			t.Errorf("%q is a version", bad)
		}
	}
}

// released is what the packages of the test are of.
const (
	releasedTag = "v1.2.3-rc1"
	releasedAt  = "2026-03-04T05:06:07Z"
	author      = "A. Uthor <a.uthor@example.com>"
)

// TestPackages makes everything twice, in a Git repository and in an archive of its
// source, at different places, with another umask, time zone and settings of Go:
// every file is the same. What is in them is looked at with the programs that are
// to use them. Usually it is one target's; the long form makes those of all, and
// compiles everything for both.
func TestPackages(t *testing.T) {
	needTools(t)
	base := t.TempDir()
	first, second := filepath.Join(base, "first"), filepath.Join(base, "where", "ever", "second")
	commit := repository(t, first)
	if err := os.MkdirAll(second, 0o700); err != nil {
		t.Fatal(err)
	}
	command(t, first, nil, "sh", "-c", "umask 077 && git archive "+releasedTag+" | tar -x -C "+second)

	args, other := []string{"--only", "linux/amd64"}, []string{"TZ=Asia/Kathmandu", "GOAMD64=v3", "GOFLAGS=-ldflags=-X=main.x=y", "SOURCE_DATE_EPOCH=1", "LC_ALL=C"}
	if mysqldtest.Long() {
		args, other = nil, append(other, "GOCACHE="+filepath.Join(base, "cache"))
	}
	told := command(t, first, []string{"TZ=UTC"}, "sh", append([]string{"-c", `umask 022 && exec scripts/package "$@"`, "sh"}, args...)...)
	command(t, second, other,
		"sh", append([]string{"-c", `umask 077 && exec scripts/package --out ../made "$@"`, "sh"}, args...)...)

	dist := filepath.Join(first, "dist")
	made := sameFiles(t, dist, filepath.Join(second, "../made"))
	t.Logf("%s", told)
	wanted, err := choose(strings.Join(args[min(1, len(args)):], ","))
	if err != nil {
		t.Fatal(err)
	}
	if want := expected(wanted); !slices.Equal(made, want) {
		t.Fatalf("it made\n%q, not\n%q", made, want)
	}
	command(t, dist, nil, "sha256sum", "--check", "--strict", sumsName)
	for _, name := range made {
		if !strings.Contains(told, filepath.Join("dist", name)+" ") {
			t.Errorf("it does not tell of %s", name)
		}
	}
	for _, target := range wanted {
		if target.os != "windows" {
			checkTar(t, dist, target, commit)
		}
	}
	checkDeb(t, filepath.Join(dist, "hb_1.2.3~rc1-1_amd64.deb"), commit)
	checkRPM(t, filepath.Join(dist, "hb-1.2.3~rc1-1.x86_64.rpm"), commit)
	if mysqldtest.Long() {
		checkOthers(t, dist, commit)
	}
}

// needTools ends the test if something is missing that it runs.
func needTools(t *testing.T) {
	t.Helper()
	for _, name := range []string{"git", "tar", "dpkg", "rpm", "sha256sum"} {
		mysqldtest.Program(t, name)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	if built, err := filepath.Glob(filepath.Join(cache, "hb/tools/nfpm-*")); err != nil || len(built) == 0 {
		mysqldtest.Program(t, "nfpm") // scripts/test builds it
	}
	if os.Geteuid() != 0 {
		t.Skip(mysqldtest.SkipMark, "rpm installs for root alone")
	}
}

// repository makes a repository of this working copy as it is, with one commit, and
// returns that.
func repository(t *testing.T, dir string) string {
	t.Helper()
	t.Chdir("../..")
	list := command(t, ".", nil, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	for name := range strings.SplitSeq(strings.TrimSuffix(list, "\x00"), "\x00") {
		st, err := os.Lstat(name)
		if os.IsNotExist(err) {
			continue // deleted
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(name)
		if err == nil {
			err = os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), content, st.Mode())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	name, mail, _ := strings.Cut(strings.TrimSuffix(author, ">"), " <")
	env := []string{"GIT_AUTHOR_NAME=" + name, "GIT_AUTHOR_EMAIL=" + mail, "GIT_COMMITTER_NAME=" + name, "GIT_COMMITTER_EMAIL=" + mail,
		"GIT_AUTHOR_DATE=" + releasedAt, "GIT_COMMITTER_DATE=" + releasedAt, "GIT_CONFIG_GLOBAL=/dev/null"}
	for _, args := range []string{"init --quiet", "add --all", "commit --quiet --message=all", "tag --annotate --message=it " + releasedTag} {
		command(t, dir, env, "git", strings.Fields(args)...)
	}
	return strings.TrimSpace(command(t, dir, nil, "git", "rev-parse", "HEAD"))
}

// command runs a program that must succeed, and returns what it says.
func command(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// sameFiles returns the names of the files in a directory, which must have the same
// bytes in the other.
func sameFiles(t *testing.T, a, b string) []string {
	t.Helper()
	sums := func(dir string) map[string]string {
		found := make(map[string]string)
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			sum, _, err := sumOf(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			found[e.Name()] = string(sum)
		}
		return found
	}
	one, other := sums(a), sums(b)
	for name := range one {
		if one[name] != other[name] {
			t.Errorf("%s has other bytes the second time, or is not there", name)
		}
	}
	if len(one) != len(other) {
		t.Errorf("%d files, and %d the second time", len(one), len(other))
	}
	return slices.Sorted(maps.Keys(one))
}

// expected are the files that are made for targets.
func expected(wanted []target) []string {
	names := []string{sumsName}
	for _, target := range wanted {
		name := "hb-1.2.3-rc1-" + target.os + "-" + target.arch
		switch target.os {
		case "windows":
			names = append(names, name+".zip")
		case "linux":
			rpm := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[target.arch]
			names = append(names, "hb_1.2.3~rc1-1_"+target.arch+".deb", "hb-1.2.3~rc1-1."+rpm+".rpm")
			fallthrough
		default:
			names = append(names, name+".tar.gz")
		}
		names = append(names, name+".cdx.json")
	}
	slices.Sort(names)
	return names
}

// checkTar looks at an archive: owners, times, order, content. The program says
// what it is, if it runs here.
func checkTar(t *testing.T, dist string, target target, commit string) {
	t.Helper()
	name := "hb-1.2.3-rc1-" + target.os + "-" + target.arch
	f, err := os.Open(filepath.Join(dist, name+".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string][]byte)
	var order []string
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		mode := fs.FileMode(0o644)
		if h.Name == name+"/hb" {
			mode = 0o755
		}
		if h.Uid != 0 || h.Gid != 0 || h.FileInfo().Mode() != mode || h.ModTime.UTC().Format(time.RFC3339) != releasedAt {
			t.Errorf("%s: %+v", h.Name, h)
		}
		if files[strings.TrimPrefix(h.Name, name+"/")], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		order = append(order, h.Name)
	}
	if !slices.IsSorted(order) {
		t.Errorf("%s is not sorted: %q", name, order)
	}
	for path, text := range map[string]string{
		"README.md": "# hb", "LICENSE": "Apache License", licencesName: "github.com/go-sql-driver/mysql v", "docs/install.md": "SHA256SUMS",
		"man/hb.1": `.TH "HB" "1" "2026-03-04" "hb 1.2.3\-rc1"`, "man/hb-backup.1": "throttle", "man/hb-verify.1": "replay",
		"completion/hb.bash": "complete", "completion/_hb": "#compdef hb", "completion/hb.fish": "complete",
	} {
		if !bytes.Contains(files[path], []byte(text)) {
			t.Errorf("%s: %s has no %q", name, path, text)
		}
	}
	program := filepath.Join(t.TempDir(), "hb")
	if err := os.WriteFile(program, files["hb"], 0o755); err != nil {
		t.Fatal(err)
	}
	checkBill(t, filepath.Join(dist, name+".cdx.json"), program)
	if target == targets[0] {
		checkVersion(t, command(t, ".", nil, program, "version"), commit)
		if out := command(t, ".", nil, "sh", "-c", "ldd "+program+" 2>&1 || true"); !strings.Contains(out, "not a dynamic executable") {
			t.Errorf("ldd says %s", out)
		}
	}
}

// checkVersion: hb says what it was built from.
func checkVersion(t *testing.T, said, commit string) {
	t.Helper()
	if want := "hb 1.2.3-rc1\ncommit: " + commit + " of " + releasedAt + "\nbuilt with: go1."; !strings.HasPrefix(said, want) ||
		!strings.Contains(said, "\nservers: ") || !strings.Contains(said, "\nredo logs: ") || !strings.Contains(said, "\narchives: ") {
		t.Errorf("hb version says\n%s", said)
	}
}

// checkBill: the bill of materials has what the standard wants of one, and names
// what the program was built from.
func checkBill(t *testing.T, path, program string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var b billOfMaterials
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		t.Fatal(err)
	}
	sum, _, err := sumOf(program)
	if err != nil {
		t.Fatal(err)
	}
	main := b.Metadata.Component
	if b.Format != "CycloneDX" || b.SpecVersion != "1.6" || b.Version < 1 || b.Metadata.Timestamp != releasedAt ||
		!regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(b.SerialNumber) ||
		main.Type != "application" || main.Name != "hb" || main.Version != "1.2.3-rc1" || len(main.Hashes) != 1 || main.Hashes[0].Content != fmt.Sprintf("%x", sum) {
		t.Errorf("%s: %+v", path, b)
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go")}
	for _, m := range info.Deps {
		want = append(want, "pkg:golang/"+m.Path+"@"+m.Version)
	}
	var got []string
	for _, c := range b.Components {
		if c.Type != "library" || c.Name == "" || c.Ref != c.URL {
			t.Errorf("%+v", c)
		}
		got = append(got, c.URL)
	}
	if !slices.Equal(got, want) || len(want) < 8 {
		t.Errorf("it names %q, and the program %q", got, want)
	}
}

// installed are files that a package puts into place.
var installed = []string{
	"usr/bin/hb", "usr/share/man/man1/hb.1.gz", "usr/share/man/man1/hb-backup.1.gz", "usr/share/bash-completion/completions/hb",
	"usr/share/fish/vendor_completions.d/hb.fish", "usr/share/doc/hb/README.md", "usr/share/doc/hb/docs/install.md",
	"usr/lib/hb/hb-nightly", "usr/lib/systemd/system/hb-backup.service", "usr/lib/systemd/system/hb-backup.timer",
}

// checkInstalled looks at a system on which the package is.
func checkInstalled(t *testing.T, root, commit string, more ...string) {
	t.Helper()
	for _, name := range append(more, installed...) {
		if st, err := os.Stat(filepath.Join(root, name)); err != nil || st.Size() == 0 {
			t.Errorf("%s is not there, or empty: %v", name, err)
		}
	}
	checkVersion(t, command(t, ".", nil, filepath.Join(root, "usr/bin/hb"), "version"), commit)
	page := command(t, ".", nil, "gzip", "-cd", filepath.Join(root, "usr/share/man/man1/hb-backup.1.gz"))
	if !strings.HasPrefix(page, `.TH "HB\-BACKUP" "1" "2026-03-04"`) {
		t.Errorf("hb-backup(1) begins %.80q", page)
	}
}

// files are those below a directory that are none of a package manager's.
func files(t *testing.T, root string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasPrefix(path, filepath.Join(root, "var")) {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// checkDeb installs a package with dpkg, on a system of its own, and removes it.
func checkDeb(t *testing.T, deb, commit string) {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"info", "updates", "triggers"} {
		if err := os.MkdirAll(filepath.Join(root, "var/lib/dpkg", dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "var/lib/dpkg/status"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	dpkg := func(args ...string) string {
		return command(t, ".", nil, "dpkg", append([]string{"--root=" + root, "--force-not-root", "--force-bad-path", "--log=/dev/null"}, args...)...)
	}
	dpkg("--install", deb)
	if out := dpkg("--verify", "hb"); out != "" {
		t.Errorf("dpkg --verify: %s", out)
	}
	if out := dpkg("--status", "hb"); !strings.Contains(out, "Status: install ok installed\n") || !strings.Contains(out, "Version: 1.2.3~rc1-1\n") || !strings.Contains(out, "Maintainer: "+author+"\n") {
		t.Errorf("dpkg --status: %s", out)
	}
	checkInstalled(t, root, commit, "usr/share/doc/hb/copyright", "usr/share/doc/hb/third-party.gz", "usr/share/zsh/vendor-completions/_hb")
	dpkg("--purge", "hb")
	if left := files(t, root); len(left) > 0 {
		t.Errorf("when it is removed there are %q", left)
	}
}

// checkRPM does the same with rpm.
func checkRPM(t *testing.T, file, commit string) {
	t.Helper()
	if out := command(t, ".", nil, "rpm", "--checksig", "--verbose", file); strings.Contains(out, "BAD") || !strings.Contains(out, "SHA256 digest: OK") {
		t.Errorf("rpm --checksig: %s", out)
	}
	if out := command(t, ".", nil, "rpm", "-qp", "--qf", "%{VERSION}-%{RELEASE} %{ARCH} %{LICENSE} %{BUILDTIME:day} %{BUILDHOST}", "--requires", file); !strings.HasPrefix(out, "1.2.3~rc1-1 x86_64 Apache-2.0 Wed Mar 04 2026 localhost") {
		t.Errorf("rpm -qp: %s", out)
	}
	root := t.TempDir()
	rpm := func(args ...string) string {
		return command(t, ".", nil, "rpm", append([]string{"--root", root, "--dbpath", "/var/lib/rpm"}, args...)...)
	}
	rpm("--initdb")
	rpm("--install", file)
	if out := rpm("--verify", "hb"); out != "" {
		t.Errorf("rpm --verify: %s", out)
	}
	checkInstalled(t, root, commit, "usr/share/licenses/hb/LICENSE", "usr/share/licenses/hb/"+licencesName, "usr/share/zsh/site-functions/_hb")
	rpm("--erase", "hb")
	if left := files(t, root); len(left) > 0 {
		t.Errorf("when it is removed there are %q", left)
	}
}

// checkOthers looks at what takes long, or needs more: Debian's checker, and the
// program for another processor.
func checkOthers(t *testing.T, dist, commit string) {
	t.Helper()
	for _, arch := range []string{"amd64", "arm64"} {
		lintian := []string{"--fail-on", "error,warning", "--allow-root", filepath.Join(dist, "hb_1.2.3~rc1-1_"+arch+".deb")}
		command(t, ".", nil, mysqldtest.Program(t, "lintian"), lintian...)
	}
	dir := t.TempDir()
	command(t, dir, nil, "tar", "-xzf", filepath.Join(dist, "hb-1.2.3-rc1-linux-arm64.tar.gz"), "--strip-components=1")
	checkVersion(t, command(t, dir, nil, mysqldtest.Program(t, "qemu-aarch64-static"), "./hb", "version"), commit)
	// What is written in the processor's own instructions.
	own := filepath.Join(dir, "cbc.test")
	command(t, ".", []string{"GOARCH=arm64", "CGO_ENABLED=0"}, "go", "test", "-c", "-o", own, "hb/xbstream/innodb/tde/cbc")
	command(t, dir, nil, mysqldtest.Program(t, "qemu-aarch64-static"), own)
	out := command(t, dir, nil, "python3", "-m", "zipfile", "--list", filepath.Join(dist, "hb-1.2.3-rc1-windows-amd64.zip"))
	for _, name := range []string{"hb.exe", "README.md", "LICENSE", licencesName, "docs/install.md"} {
		if !strings.Contains(out, "hb-1.2.3-rc1-windows-amd64/"+name+" ") {
			t.Errorf("the archive for Windows has no %s:\n%s", name, out)
		}
	}
}
