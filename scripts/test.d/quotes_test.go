package testd

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hb/scripts/test.d/hbtest"
	"hb/source/mysqld/mysqldtest"
)

// quote is what a page shows of what a program prints: a line of a block, or words in
// quotation marks.
type quote struct {
	page, text string
	by         printer
}

// printer says which run prints a quote.
type printer int

const (
	nobody    printer = iota // it is no message
	checked                  // hb check, on MySQL 9.7
	defaults                 // hb backup --print-defaults
	signalled                // hb backup, when it gets SIGUSR1
	summed                   // hb backup, when it has succeeded
	manifest                 // nobody: the archive has it
	increment                // nobody: the archive of an increment has it, of MySQL 9.7
	granted                  // hb check --grants, in effect
	events                   // SHOW BINLOG EVENTS
	held                     // a server, on a directory that hb apply has begun to change
	doubled                  // MySQL 9.7, on two files of one tablespace
	crashed                  // MariaDB, when it crashes: no test does that to it
)

// quotes are all that the pages show of what programs print. Numbers, sizes and
// paths may differ from those that are printed.
var quotes = []quote{
	{"account.md", "-- MariaDB; and SLAVE MONITOR for --slave-info", granted},
	{"account.md", "GRANT RELOAD, PROCESS, BINLOG MONITOR ON *.* TO backup@localhost;", granted},
	{"account.md", "-- MySQL 8.0 and later; and SELECT, LOCK TABLES where there are non-transactional tables", granted},
	{"account.md", "GRANT BACKUP_ADMIN, RELOAD, PROCESS ON *.* TO backup@localhost;", granted},
	{"account.md", "GRANT SELECT ON performance_schema.log_status TO backup@localhost;", granted},
	{"account.md", "GRANT SELECT ON performance_schema.keyring_component_status TO backup@localhost;", nobody}, // TestCheckSealed has it printed
	{"account.md", "GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON *.* TO backup@localhost;", nobody},              // TestDefinitionsAccount of source has it printed
	{"account.md", "-- MySQL 5.6 and 5.7", granted},
	{"account.md", "GRANT RELOAD, PROCESS, REPLICATION CLIENT ON *.* TO backup@localhost;", granted},
	{"account.md", "ok       version: MySQL 9.7.4 is supported; hb was tested with 9.7.4", checked},
	{"account.md", "FAIL     privileges: the user backup@localhost lacks the privileges BACKUP_ADMIN, RELOAD: run", checked},
	{"account.md", "    GRANT BACKUP_ADMIN, RELOAD ON *.* TO 'backup'@'localhost';", checked},
	{"account.md", "ok       files: all can be read: 6 tablespaces, 125 files of other engines and definitions", checked},
	{"account.md", "warning  redo rate: the log holds 100 MiB; at 4.10 MiB/s it wraps in 24s; hb reads ...", checked},
	{"account.md", "...", nobody},
	{"account.md", "# option files: /etc/mysql/my.cnf /root/.my.cnf", defaults},
	{"account.md", "[hb]", defaults},
	{"account.md", "user=backup      # /etc/mysql/my.cnf:12 [client]", defaults},
	{"account.md", "throttle=50MiB   # HB_THROTTLE", defaults},
	{"account.md", "compress-level=5 # command line", defaults},
	{"account.md", "#password=***    # /root/.my.cnf:3 [client]", defaults},
	{"architecture.md", "Too many levels of symbolic links", held},
	{"concepts.md", "Too many levels of symbolic links", held},
	{"formats.md", `{"hb_manifest":1,"files":3,"bytes":73400412,"heads_crc32":"1c2d3e4f","from_lsn":…,"checkpoint_lsn":…,"last_lsn":…,"server":"3b841e42-…",…}`, manifest},
	{"formats.md", `{"path":"hb-archive.json","size":412,"crc32":"0c5d1d3b"}`, manifest},
	{"formats.md", "…", nobody},
	{"formats.md", `{"hb_manifest_end":1,"files":3,"crc32":"5f3c8f10","index_at":73401103}`, manifest},
	{"formats.md", `{"hb_definitions":1,"server":"MariaDB 11.8.6-MariaDB","tables":true}`, nobody}, // TestDefinitions of source compares them with servers
	{"formats.md", "{\"kind\":\"database\",\"database\":\"shop\",\"create\":\"CREATE DATABASE `shop` …\"}", nobody},
	{"formats.md", "{\"kind\":\"table\",\"database\":\"shop\",\"name\":\"orders\",\"create\":\"CREATE TABLE `orders` (…\"}", nobody},
	{"formats.md", `{"kind":"trigger","database":"shop","name":"t","table":"orders","order":1,"create":"CREATE DEFINER=…","sql_mode":"…","character_set_client":"utf8mb4",…}`, nobody},
	{"formats.md", `{"kind":"table","database":"shop","name":"broken","missing":"Error 1033 (HY000): …"}`, nobody},
	{"formats.md", `{"hb_definitions_end":1,"records":4}`, nobody},
	{"formats.md", `{"live":"db/t.ibd","size":114688,"kind":"changed","space":5,"from":"db/old.ibd","zero":[[3,2]],"pages_sum":"0123456789abcdef"}`, increment},
	{"formats.md", `{"live":"db/m.MYD","size":2000,"kind":"copied","crc32":"5f3c8f10"}`, increment},
	{"formats.md", `{"dropped":"db/gone.ibd"}`, increment},
	{"from-mariadb-backup.md", "Yes", nobody},
	{"from-xtrabackup.md", "Yes", nobody},
	{"install.md", "the server cannot be reached", nobody}, // words of the table of exit codes
	{"locks.md", "stack smashing detected", crashed},
	{"monitoring.md", "hb: copying tablespaces 11%, 4.00 MiB of 36.3 MiB, ETA 11s, 3.00 MiB/s, redo lag 0 B, spool 0 B", signalled},
	{"recipes/pitr-mariadb.md", "binlog.000002   616     Gtid    1       658     GTID 0-1-6", events},
	{"recipes/pitr-mariadb.md", "binlog.000002   658     Query   1       774     use `shop`; DROP TABLE `orders` /* generated by server */", events},
	{"recipes/pitr-mysql.md", "binlog.000003   478     Gtid    1       555     SET @@SESSION.GTID_NEXT= '6ce2c158-eaa3-11f1-81fe-02fc00000001:6'", events},
	{"recipes/pitr-mysql.md", "binlog.000003   555     Query   1       681     use `shop`; DROP TABLE `orders` /* generated by server */ /* xid=74 */", events},
	{"recipes/replica-mariadb.md", "binlog FILE:POSITION GTID", summed},
	{"recipes/replica-mysql.md", "binlog FILE:POSITION GTIDS", summed},
	{"recipes/replica-mysql.md", "5.6 and 5.7", nobody},
	{"restore.md", "Multiple files found for the same tablespace ID", doubled},
}

// Blocks of pages that show no output: command lines, drawings, and what is made from
// the help, which has tests of its own.
var (
	blockCommand = regexp.MustCompile(`^ *(hb |age |ssh |scripts/|CGO_ENABLED|go |tar |install |dpkg |rpm |chown |systemctl |sha256sum )|^$`)
	blockDrawing = regexp.MustCompile(`[│└▶]|^running server`)
	quotedWords  = regexp.MustCompile(`"([^"]+)"`)
	// codeSpan is code within a line. What it has of quotation marks is the code's.
	codeSpan = regexp.MustCompile("`[^`]*`")
	// messageRow is a row of a table that says where hb prints something.
	messageRow = regexp.MustCompile("^\\| the last messages of `hb backup` \\| `([^`]*)`")
)

// shown are what a page shows of what is printed: lines of blocks, and words in
// quotation marks.
func shown(page string) (texts []string) {
	var prose strings.Builder
	fenced := false
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		text, indented := strings.CutPrefix(line, "    ")
		switch m := messageRow.FindStringSubmatch(line); {
		case strings.HasPrefix(line, "```"):
			fenced = !fenced
		case fenced: // commands, and files
		case indented && !blockCommand.MatchString(text) && !blockDrawing.MatchString(text):
			texts = append(texts, text)
		case m != nil:
			texts = append(texts, m[1])
		case !indented:
			prose.WriteString(line + "\n")
		}
	}
	for _, m := range quotedWords.FindAllStringSubmatch(codeSpan.ReplaceAllString(prose.String(), ""), -1) {
		texts = append(texts, strings.Join(strings.Fields(m[1]), " "))
	}
	return texts
}

// TestDocsQuotes: all that pages show of what is printed is in the list of quotes,
// which the other tests here compare with what programs print, and nothing else is.
func TestDocsQuotes(t *testing.T) {
	var found []quote
	for _, pattern := range []string{"README.md", "docs/*.md", "docs/recipes/*.md"} {
		names, err := filepath.Glob(filepath.Join("../..", pattern))
		if err != nil || len(names) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		for _, name := range names {
			if filepath.Base(name) == "reference.md" {
				continue // made from the help
			}
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			page := strings.TrimPrefix(strings.TrimPrefix(name, "../../"), "docs/")
			for _, text := range shown(string(text)) {
				found = append(found, quote{page: page, text: text})
			}
		}
	}
	same := func(q quote) func(quote) bool {
		return func(o quote) bool { return o.page == q.page && o.text == q.text }
	}
	for _, q := range found {
		if !slices.ContainsFunc(quotes, same(q)) {
			t.Errorf("%s shows %q, and no test knows who prints it", q.page, q.text)
		}
	}
	for _, q := range quotes {
		if !slices.ContainsFunc(found, same(q)) {
			t.Errorf("%s does not show %q", q.page, q.text)
		}
	}
}

// open are parts of quotes that may differ from what is printed: sums of pages and bytes, ids, paths of
// option files, placeholders, sizes, durations, numbers, and what is left out.
var open = regexp.MustCompile(`("[0-9a-f]{16}")|("[0-9a-f]{8}")|("[0-9a-f]{8}-…")|('[0-9a-f-]{36}:)|(/[a-z/]+/\.?my\.cnf)|(\bFILE:POSITION GTIDS?)|([0-9.]+ (?:B|KiB|MiB)\b)|([0-9]+s\b)|([0-9]+(?:[.-][0-9]+)*)|(\.\.\.|…)`)

// openFor are patterns for these parts, by their number in open.
var openFor = []string{1: `"[0-9a-f]{16}"`, `"[0-9a-f]{8}"`, `"[0-9a-f-]{36}"`, `'[0-9a-f-]{36}:`, `/.*my\.cnf`, `[a-z]+\.[0-9]+:[0-9]+ [0-9a-f:-]+`,
	`[0-9.]+ (?:B|KiB|MiB|GiB)`, `[0-9][0-9hms.]*`, `[0-9]+(?:[.-][0-9]+)*`, `.*`}

// pattern is what a printed line must match.
func (q quote) pattern() *regexp.Regexp {
	text := strings.Join(strings.Fields(q.text), " ")
	p, end := "^", 0
	for _, m := range open.FindAllStringSubmatchIndex(text, -1) {
		p += regexp.QuoteMeta(text[end:m[0]])
		end = m[1]
		for i, part := range openFor {
			if i > 0 && m[2*i] >= 0 {
				p += part
			}
		}
	}
	return regexp.MustCompile(p + regexp.QuoteMeta(text[end:]) + "$")
}

// printedBy: each quote of one printer, of pages whose names have a word, is a line of
// what was printed.
func printedBy(t *testing.T, by printer, word, text string) {
	t.Helper()
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	n := 0
	for _, q := range quotes {
		if q.by != by || !strings.Contains(q.page, word) {
			continue
		}
		n++
		if !slices.ContainsFunc(lines, q.pattern().MatchString) {
			t.Errorf("%s shows %q, and what is printed is:\n%s", q.page, q.text, text)
		}
	}
	if n == 0 {
		t.Errorf("no quote of %d in %q", by, word)
	}
}

// TestQuotedDefaults: what account.md shows of --print-defaults is what it prints.
func TestQuotedDefaults(t *testing.T) {
	home, file := t.TempDir(), filepath.Join(t.TempDir(), "my.cnf")
	for name, text := range map[string]string{file: "[client]\nuser=backup\n", filepath.Join(home, ".my.cnf"): "[client]\npassword=secret\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := hb(t, "backup", "--print-defaults", "--defaults-extra-file="+file, "--compress-level=5")
	cmd.Env = []string{"HOME=" + home, "HB_THROTTLE=50MiB"}
	printedBy(t, defaults, "", hbtest.Succeed(t, cmd).Stdout)
}

// TestQuotes: what pages show of what hb and servers print is what they print.
func TestQuotes(t *testing.T) {
	mysqldtest.Each(t, []string{mysqldtest.MariaDB1011, mysqldtest.MySQL97, mysqldtest.MySQL57}, func(t *testing.T, root *mysqldtest.Root) {
		s := filled(t, root, mysqldtest.Options{Binlog: true})
		quotedGrants(t, s)
		word := "mysql"
		if root.MariaDB() {
			word = "mariadb"
		}
		if root.AtLeast(8, 0) && !root.MariaDB() {
			s.Exec(t, "REVOKE BACKUP_ADMIN, RELOAD ON *.* FROM backup@localhost")
			printedBy(t, checked, "", checkWhileWriting(t, s))
		}

		s.Exec(t, "CREATE DATABASE db", "CREATE TABLE db.old (id INT PRIMARY KEY) ENGINE=InnoDB", "CREATE TABLE db.gone LIKE db.old", "CREATE TABLE db.m (id INT) ENGINE=MyISAM")
		s.WriteOut(t)
		archive, dir := filepath.Join(t.TempDir(), "archive"), filepath.Join(t.TempDir(), "dir")
		out, err := os.Create(archive)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		backup := hb(t, "backup", "--no-defaults", "-u", "root", "-S", s.Socket, "--throttle=10MiB")
		backup.Stdout = out
		said := askedUntilItEnds(t, backup)
		printedBy(t, signalled, "", said)
		printedBy(t, summed, word, strings.ReplaceAll(said, "hb: ", ""))

		s.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT)")
		c := s.Conn(t)
		for _, q := range []string{"USE shop", "DROP TABLE orders"} {
			if _, err := c.ExecContext(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
		if !root.MariaDB() && !root.AtLeast(8, 0) {
			return
		}
		position, err := s.BinlogPosition(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var list strings.Builder
		for _, row := range s.Rows(t, "SHOW BINLOG EVENTS IN '"+position.File+"'") {
			list.WriteString(strings.Join(row, " ") + "\n")
		}
		printedBy(t, events, word, list.String())

		hbtest.Succeed(t, hb(t, "extract", "-C", dir, archive))
		text, err := os.ReadFile(filepath.Join(dir, "hb-manifest.json"))
		if err != nil {
			t.Fatal(err)
		}
		printedBy(t, manifest, "", string(text))
		if !root.MariaDB() { // whose new files have no page that is zero
			printedBy(t, increment, "", incrementManifest(t, s, archive))
		}
		quotedErrors(t, s)
	})
}

// incrementManifest is the manifest of an increment, after a table was renamed and changed,
// one of MyISAM was changed, and one was dropped.
func incrementManifest(t *testing.T, s *mysqldtest.Server, base string) string {
	t.Helper()
	s.Exec(t, "RENAME TABLE db.old TO db.t", "INSERT INTO db.t VALUES (1)", "INSERT INTO db.m VALUES (1)", "DROP TABLE db.gone")
	s.WriteOut(t)
	archive := filepath.Join(t.TempDir(), "increment")
	out, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := hb(t, "backup", "--no-defaults", "-u", "root", "-S", s.Socket, "--since", base)
	cmd.Stdout = out
	hbtest.Succeed(t, cmd)
	return hbtest.Succeed(t, hb(t, "list", "--manifest", archive)).Stdout
}

// quotedGrants: the statements of account.md give a new account exactly what hb check
// --grants says that it lacks.
func quotedGrants(t *testing.T, s *mysqldtest.Server) {
	t.Helper()
	kind, further := "MySQL 8.0 and later; and SELECT, LOCK TABLES", "LOCK TABLES ON *.*|SELECT ON *.*"
	switch {
	case s.Root.MariaDB():
		kind, further = "MariaDB; and SLAVE MONITOR", "SLAVE MONITOR ON *.*"
	case !s.Root.AtLeast(8, 0):
		kind, further = "MySQL 5.6 and 5.7", ""
	}
	var statements []string
	here := false
	for _, q := range quotes {
		if comment, ok := strings.CutPrefix(q.text, "-- "); ok {
			here = strings.HasPrefix(comment, kind)
		} else if q.by == granted && here {
			statements = append(statements, q.text)
		}
	}
	s.Exec(t, "CREATE USER backup@localhost IDENTIFIED BY 'pw'")
	lacks := func(args ...string) []string {
		t.Helper()
		args = append([]string{"check", "--grants", "--no-definitions", "--no-defaults", "-u", "backup", "--password=pw", "-S", s.Socket}, args...)
		return privileges(strings.Split(strings.TrimSpace(hbtest.Succeed(t, hb(t, args...)).Stdout), "\n"))
	}
	if got, want := lacks(), privileges(statements); len(want) < 3 || !slices.Equal(got, want) {
		t.Errorf("account.md has %q, and hb asks for %q", want, got)
	}
	for _, q := range statements {
		s.Exec(t, strings.TrimSuffix(q, ";"))
	}
	if got := lacks(); len(got) > 0 {
		t.Errorf("with the statements of account.md hb asks for %q", got)
	}
	args := []string{}
	if s.Root.MariaDB() {
		args = append(args, "--slave-info")
	} else {
		s.Exec(t, "CREATE TABLE d.plain (id INT) ENGINE=MyISAM")
		defer s.Exec(t, "DROP TABLE d.plain")
	}
	if got := strings.Join(lacks(args...), "|"); got != further {
		t.Errorf("account.md has %q, and hb asks for %q", further, got)
	}
}

// privileges are those that statements grant, and on what, in the statements' order of
// objects.
func privileges(statements []string) (list []string) {
	for _, q := range statements {
		names, rest, _ := strings.Cut(strings.TrimPrefix(q, "GRANT "), " ON ")
		on, _, ok := strings.Cut(rest, " TO ")
		for name := range strings.SplitSeq(names, ", ") {
			if ok {
				list = append(list, strings.ReplaceAll(name+" ON "+on, "`", ""))
			}
		}
	}
	slices.Sort(list)
	return list
}

// askedUntilItEnds runs a backup, asks again and again how far it is, and returns what
// it said.
func askedUntilItEnds(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	mysqldtest.Await(t, "it can be asked, and does not die of it", func() bool { return catches(cmd.Process.Pid, syscall.SIGUSR1) })
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("%v: %s", err, errs.String())
			}
			return errs.String()
		case <-time.After(100 * time.Millisecond):
			cmd.Process.Signal(syscall.SIGUSR1) // it may have ended
		}
	}
}

// checkWhileWriting is the report of hb check with a busy server.
func checkWhileWriting(t *testing.T, s *mysqldtest.Server) string {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() {
		for ctx.Err() == nil {
			s.DB().ExecContext(ctx, "UPDATE d.t SET v = REVERSE(CONCAT(v, 'x'))") // the report says if nothing is written
		}
	})
	r := hbtest.Finish(t, hb(t, "check", "--no-defaults", "-u", "backup", "--password=pw", "-S", s.Socket, "--rate-interval=2"))
	stop()
	writer.Wait()
	return r.Stdout
}

// quotedErrors: what servers log when they do not start. It ends the server.
func quotedErrors(t *testing.T, s *mysqldtest.Server) {
	t.Helper()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	fails := func(by printer) {
		t.Helper()
		failed, err := mysqldtest.LaunchOn(t.Context(), s.Root, s.Datadir, mysqldtest.Options{Dir: t.TempDir()})
		if err == nil {
			failed.Kill()
			t.Fatalf("a server starts, and does not print what %d does", by)
		}
		for _, q := range quotes {
			if q.by == by && !strings.Contains(err.Error(), q.text) {
				t.Errorf("%s shows %q, and the server prints %v", q.page, q.text, err)
			}
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if !s.Root.MariaDB() {
		copied := filepath.Join(s.Datadir, "d", "copied.ibd")
		must(mysqldtest.CopyFile(copied, filepath.Join(s.Datadir, "d", "t.ibd")))
		fails(doubled)
		must(os.Remove(copied))
	}
	system := filepath.Join(s.Datadir, "ibdata1")
	must(os.Rename(system, system+".away"))
	must(os.Symlink("ibdata1", system))
	fails(held)
}
