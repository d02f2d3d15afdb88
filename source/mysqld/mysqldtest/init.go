package mysqldtest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// initDatadir makes datadir (absent or empty) a freshly initialised data
// directory: a copy of a cached template where the options allow it, because
// initialising takes a server several seconds.
func (r *Root) initDatadir(datadir string, o *Options) error {
	lines := o.initLines()
	if strings.Contains(strings.Join(lines, ""), "/") {
		return r.initialise(datadir, lines)
	}
	tmpl, err := r.template(lines)
	if err != nil {
		return err
	}
	return CopyTree(datadir, tmpl)
}

// template returns a directory that holds an initialised data directory for
// these lines. Test processes share it: it is made under another name and
// renamed into place, and whoever comes second uses the first one's.
func (r *Root) template(lines []string) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	key := sha256.Sum256([]byte(strings.Join(append([]string{r.Version, "2"}, lines...), "\n")))
	parent := filepath.Join(cache, ".templates")
	dir := filepath.Join(parent, fmt.Sprintf("%s-%s-%x", r.Name, r.Version, key[:6]))
	if dirExists(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", fmt.Errorf("make the directory of the templates: %w", err)
	}
	tmp, err := os.MkdirTemp(parent, ".new-")
	if err != nil {
		return "", fmt.Errorf("make a template: %w", err)
	}
	defer os.RemoveAll(tmp)
	data := filepath.Join(tmp, "data")
	if err := r.initialise(data, lines); err != nil {
		return "", err
	}
	// A copy with this identity could not replicate from another copy.
	if err := os.Remove(filepath.Join(data, "auto.cnf")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := digHoles(data); err != nil {
		return "", err
	}
	if err := os.Rename(data, dir); err != nil && !dirExists(dir) {
		return "", fmt.Errorf("put the template in place: %w", err)
	}
	return dir, nil
}

// digHoles makes holes of the zeroes in the files below dir: a fresh redo log is
// large and empty.
func digHoles(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if out, err := exec.Command("fallocate", "--dig-holes", path).CombinedOutput(); err != nil {
			return fmt.Errorf("dig holes into %s: %w: %s", path, err, out)
		}
		return nil
	})
}

// Initialise makes a data directory with the server's own means, as Launch does
// without a template. Lines are [Options].Init.
func (r *Root) Initialise(datadir string, lines []string) error { return r.initialise(datadir, lines) }

// initialise makes a data directory with the server's own means, with an account
// root@localhost without a password.
func (r *Root) initialise(datadir string, lines []string) error {
	if err := os.MkdirAll(datadir, 0o755); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	work, err := os.MkdirTemp("", "hb-init-")
	if err != nil {
		return fmt.Errorf("initialise %s: %w", r.Name, err)
	}
	defer os.RemoveAll(work)
	errorLog := filepath.Join(work, "error.log")
	args := []string{"--no-defaults"}
	for _, l := range append(r.baseLines(datadir, errorLog, work), lines...) {
		args = append(args, "--"+l)
	}
	var input io.Reader
	if !r.MariaDB() && r.AtLeast(5, 7) {
		args = append(args, "--initialize-insecure")
	} else {
		if input, err = r.bootstrapSQL(); err != nil {
			return err
		}
		// 5.6 wants the directory of its system tables to be there.
		if err := os.MkdirAll(filepath.Join(datadir, "mysql"), 0o755); err != nil {
			return fmt.Errorf("initialise %s: %w", r.Name, err)
		}
		args = append(args, "--bootstrap", "--skip-grant-tables", "--skip-networking", "--skip-log-bin")
	}
	cmd := r.Tool("mysqld", args...)
	cmd.Stdin = input
	if out, err := cmd.CombinedOutput(); err != nil {
		log, _ := os.ReadFile(errorLog)
		return fmt.Errorf("initialise %s in %s: %w\n%s%s", r.Name, datadir, err, tail(string(log)), tail(string(out)))
	}
	return nil
}

// bootstrapSQL returns the statements that make the system tables, from the SQL
// files that the root carries, in the order that the series' own installation
// script feeds them.
func (r *Root) bootstrapSQL() (io.Reader, error) {
	prefix := "mysql_"
	if _, err := os.Stat(filepath.Join(r.share, "mariadb_system_tables.sql")); err == nil {
		prefix = "mariadb_"
	}
	names := []string{prefix + "system_tables.sql", prefix + "system_tables_data.sql"}
	if r.MariaDB() {
		names = []string{
			prefix + "system_tables.sql", prefix + "performance_tables.sql", prefix + "system_tables_data.sql",
			"fill_help_tables.sql", "maria_add_gis_sp_bootstrap.sql", prefix + "sys_schema.sql",
		}
	}
	var b bytes.Buffer
	if r.MariaDB() {
		b.WriteString("create database if not exists mysql;\n")
	}
	b.WriteString("use mysql;\n")
	for _, name := range names {
		sql, err := os.ReadFile(filepath.Join(r.share, name))
		if errors.Is(err, fs.ErrNotExist) && strings.HasSuffix(name, "sys_schema.sql") {
			continue // MariaDB has it since 10.6
		}
		if err != nil {
			return nil, fmt.Errorf("read the system tables of %s: %w", r.Name, err)
		}
		for line := range strings.Lines(string(sql)) {
			// Accounts for this machine's host name: nothing connects that way.
			if !strings.Contains(line, "@current_hostname") {
				b.WriteString(line)
			}
		}
		b.WriteString("\n")
	}
	return &b, nil
}

// tail returns the last part of a server's log, enough to see why it ended.
func tail(s string) string {
	const most = 4000
	if len(s) > most {
		s = "..." + s[len(s)-most:]
	}
	return s
}
