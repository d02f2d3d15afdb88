package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hb/scripts/torture.d/load"
)

// A setting is one way to set a server up. @DIR@ stands for a directory that the
// restored server does not share, @KEYS@ for its file of keys.
type setting struct {
	name    string
	on      []string // the servers that have it; nil: all
	init    []string // lines of the option file, from initialisation on
	config  []string // lines for running, that the restored server gets too
	outside bool     // not for the restored server
	globals []string // variables, as NAME=VALUE, that are set globally when the loads have connected
	page    int      // page size in bytes, where it is not the default
	keyring bool     // the server keeps keys in a file (MySQL)
}

// A settingGroup is drawn from: one setting, or the server's default.
type settingGroup struct {
	name    string
	of      []setting
	chances int // one in so many rounds has none of them; see draw
}

var (
	mariadbServers = servers[:3]
	mysql57        = servers[4:5]
	mysql97        = servers[5:6]
	oldMySQL       = servers[3:5]
	not56          = slices.Concat(servers[:3], servers[4:6])
)

var settingGroups = []settingGroup{
	{name: "page size", chances: 3, of: []setting{
		{name: "page 4k", init: []string{"innodb-page-size=4k"}, page: 4096},
		{name: "page 8k", init: []string{"innodb-page-size=8k"}, page: 8192},
		{name: "page 32k", on: not56, init: []string{"innodb-page-size=32k"}, page: 32768},
	}},
	{name: "checksum", chances: 2, of: []setting{
		{name: "checksum crc32", config: []string{"innodb-checksum-algorithm=crc32"}},
		{name: "checksum innodb", on: slices.Concat(servers[:1], oldMySQL), config: []string{"innodb-checksum-algorithm=innodb"}},
		{name: "checksum none", on: slices.Concat(servers[:1], oldMySQL), config: []string{"innodb-checksum-algorithm=none"}},
	}},
	{name: "redo log", chances: 2, of: []setting{
		{name: "log 24M", on: mariadbServers, config: []string{"innodb-log-file-size=24M"}},
		{name: "log 2x12M", on: oldMySQL, config: []string{"innodb-log-file-size=12M"}},
		{name: "log 5x8M", on: oldMySQL, config: []string{"innodb-log-file-size=8M", "innodb-log-files-in-group=5"}},
		{name: "log 32M", on: mysql97, config: []string{"innodb-redo-log-capacity=32M"}},
	}},
	{name: "undo", chances: 2, of: []setting{
		{name: "undo 3", on: slices.Concat(servers[:5]), init: []string{"innodb-undo-tablespaces=3"}},
		{name: "undo 3 truncated", on: slices.Concat(mariadbServers, mysql57), init: []string{"innodb-undo-tablespaces=3"},
			config: []string{"innodb-undo-log-truncate=ON", "innodb-max-undo-log-size=10M", "loose-innodb-purge-rseg-truncate-frequency=1"}},
		{name: "undo truncated", on: mysql97, config: []string{"innodb-undo-log-truncate=ON", "innodb-max-undo-log-size=10M", "innodb-purge-rseg-truncate-frequency=1"}},
	}},
	{name: "files", chances: 3, of: []setting{
		{name: "three system files", init: []string{"innodb-data-file-path=ibdata1:12M;ibdata2:10M;ibdata3:5M:autoextend"}},
		{name: "one file for all tables", config: []string{"innodb-file-per-table=OFF"}},
		{name: "log and undo elsewhere", init: []string{"innodb-log-group-home-dir=@DIR@/log", "innodb-undo-directory=@DIR@/undo"}, outside: true},
		{name: "system files elsewhere", init: []string{"innodb-data-home-dir=@DIR@/home"}, outside: true},
	}},
	{name: "binary log", chances: 2, of: []setting{
		{name: "no binary log"},
		{name: "sync_binlog=0", config: []string{"sync-binlog=0"}},
		{name: "small binary logs", config: []string{"max-binlog-size=65536"}},
		{name: "binary log elsewhere", config: []string{"log-bin=@DIR@/binlog/b.log", "log-bin-index=@DIR@/binlog/i.index"}, outside: true},
	}},
	{name: "flush", chances: 2, of: []setting{
		{name: "trx_commit=0", config: []string{"innodb-flush-log-at-trx-commit=0"}},
		{name: "trx_commit=2", config: []string{"innodb-flush-log-at-trx-commit=2"}},
		{name: "lazy pages", config: []string{"innodb-max-dirty-pages-pct=99", "innodb-adaptive-flushing=OFF", "innodb-io-capacity=100", "loose-innodb-idle-flush-pct=0"}},
		{name: "eager pages", config: []string{"innodb-max-dirty-pages-pct=0", "innodb-io-capacity=4000", "innodb-io-capacity-max=8000"}},
		{name: "no doublewrite", config: []string{"innodb-doublewrite=OFF"}},
		{name: "small pool", config: []string{"innodb-buffer-pool-size=24M"}},
	}},
	{name: "session", chances: 3, of: []setting{
		{name: "ANSI_QUOTES", config: []string{"sql-mode=ANSI_QUOTES,NO_BACKSLASH_ESCAPES"}},
		{name: "strict", config: []string{"sql-mode=TRADITIONAL"}},
		{name: "utf8mb4", config: []string{"character-set-server=utf8mb4", "collation-server=utf8mb4_bin"}},
		{name: "small packets", config: []string{"max-allowed-packet=1M"}},
	}},
	// What hb's sessions must not take over.
	{name: "globals", chances: 2, of: []setting{
		{name: "max_join_size", globals: []string{"max_join_size=1"}},
		{name: "sql_select_limit", globals: []string{"sql_select_limit=1", "group_concat_max_len=4"}},
		{name: "short waits", globals: []string{"wait_timeout=1", "net_read_timeout=1", "net_write_timeout=1", "lock_wait_timeout=1"}},
		{name: "no autocommit", globals: []string{"autocommit=0", "completion_type='CHAIN'"}},
		{name: "max_statement_time", on: mariadbServers, globals: []string{"max_statement_time=0.001"}},
		{name: "max_execution_time", on: not56[3:], globals: []string{"max_execution_time=1"}},
		{name: "tmp_memory_table_size", globals: []string{"tmp_table_size=1024", "max_heap_table_size=16384", "big_tables=1"}},
		{name: "read only", globals: []string{"read_only=1"}},
		{name: "odd sql_mode", globals: []string{"sql_mode='ANSI,PIPES_AS_CONCAT,IGNORE_SPACE,NO_UNSIGNED_SUBTRACTION,PAD_CHAR_TO_FULL_LENGTH'"}},
	}},
	{name: "encryption", chances: 3, of: []setting{
		{name: "encrypted tables", on: mysql97, keyring: true, config: []string{"default-table-encryption=ON"}},
		{name: "encrypted logs", on: mysql97, keyring: true, config: []string{"innodb-redo-log-encrypt=ON", "innodb-undo-log-encrypt=ON", "binlog-encryption=ON"}},
		{name: "encrypted", on: mysql97, keyring: true, config: []string{"default-table-encryption=ON", "innodb-redo-log-encrypt=ON", "innodb-undo-log-encrypt=ON", "binlog-encryption=ON"}},
		{name: "tables encrypted", on: mariadbServers, config: append([]string{"innodb-encrypt-tables=ON"}, keyLines...)},
		{name: "all encrypted", on: mariadbServers, config: append([]string{"innodb-encrypt-tables=FORCE", "innodb-encrypt-log=ON", "aria-encrypt-tables=ON",
			"encrypt-tmp-files=ON", "innodb-encrypt-temporary-tables=ON", "file-key-management-encryption-algorithm=aes_ctr"}, keyLines...)},
		{name: encryptionBegins, on: mariadbServers, globals: []string{"innodb_encrypt_tables=1"},
			config: append([]string{"innodb-encryption-threads=4", "innodb-encryption-rotation-iops=2000", "innodb-encrypt-log=ON"}, keyLines...)},
	}},
}

// encryptionBegins has the server encrypt all tablespaces while hb copies them.
const encryptionBegins = "encryption begins"

// keyLines give a MariaDB keys; keys is what the file has. hb gets it by its environment.
var keyLines = []string{"plugin-load-add=file_key_management", "file-key-management-filename=@KEYS@"}

const keys = "1;770a8a65da156d24ee2a093277530142\n2;a7addd9adea9978fda19f21e6be987880e68ac92632ca052e5bb42b1a506939a\n"

// keyFile is the round's file of keys.
func (r *round) keyFile() string { return filepath.Join(r.dir, "keys") }

// giveKeys writes the file of keys, and has the commands of the round know of it if the server
// uses it.
func (r *round) giveKeys() error {
	uses := slices.ContainsFunc(r.settings, func(s *setting) bool { return s != nil && slices.Contains(s.config, keyLines[0]) })
	if !uses {
		return os.Unsetenv(keyVariable)
	}
	return errors.Join(os.WriteFile(r.keyFile(), []byte(keys), 0o600), os.Setenv(keyVariable, r.keyFile()))
}

// keyVariable is hb's option --key-file in the environment.
const keyVariable = "HB_KEY_FILE"

// draw draws a setting that the server has; nil is its default. Aimed ones come
// first.
func (g *settingGroup) draw(rnd *rand.Rand, server string, aimed []string) *setting {
	var able []*setting
	for i := range g.of {
		if s := &g.of[i]; s.on == nil || slices.Contains(s.on, server) {
			able = append(able, s)
		}
	}
	n, none := rnd.IntN(max(1, len(able))), rnd.IntN(g.chances) > 0
	for _, s := range able {
		if slices.Contains(aimed, s.name) {
			return s
		}
	}
	if len(able) == 0 || none || len(aimed) > 0 {
		return nil
	}
	return able[n]
}

// has reports whether a setting was drawn.
func (p *plan) has(name string) bool {
	return slices.ContainsFunc(p.settings, func(s *setting) bool { return s != nil && s.name == name })
}

// keyring reports whether the server keeps keys in a file.
func (p *plan) keyring() bool {
	return slices.ContainsFunc(p.settings, func(s *setting) bool { return s != nil && s.keyring })
}

// lines gathers the lines of all settings.
func (r *round) lines(of func(*setting) []string) (out []string) {
	place := strings.NewReplacer("@DIR@", r.outside(), "@KEYS@", r.keyFile())
	for _, s := range r.settings {
		if s == nil {
			continue
		}
		for _, l := range of(s) {
			out = append(out, place.Replace(l))
		}
	}
	return out
}

// idleSessions is how many sessions wait for the next statement.
const idleSessions = 2

// setGlobals gives the server the global settings of the plan, for sessions that
// begin from now on, and returns what takes them back. The loads have their
// sessions.
func (r *round) setGlobals(ctx context.Context) (restore func() error, err error) {
	var before []string
	for _, s := range r.settings {
		if s == nil {
			continue
		}
		for _, set := range s.globals {
			name, _, _ := strings.Cut(set, "=")
			old, err := load.Table(ctx, r.source.DB(), "SELECT @@global."+name)
			if err != nil {
				return nil, err
			}
			before = append(before, fmt.Sprintf("SET GLOBAL %s='%s'", name, old[0][0]))
			if strings.Trim(old[0][0], "0123456789.") == "" {
				before[len(before)-1] = fmt.Sprintf("SET GLOBAL %s=%s", name, old[0][0])
			}
		}
	}
	if len(before) == 0 {
		return func() error { return nil }, nil
	}
	c, err := r.source.DB().Conn(ctx) // a session of its own: it is not cut off by what it sets
	if err != nil {
		return nil, err
	}
	restore = func() error {
		var errs []error
		for _, q := range before {
			_, err := c.ExecContext(context.WithoutCancel(ctx), q)
			errs = append(errs, err)
		}
		err := errors.Join(append(errs, c.Close())...)
		// Sessions that began meanwhile have these settings: oracles must not get them.
		r.source.DB().SetMaxIdleConns(0)
		r.source.DB().SetMaxIdleConns(idleSessions)
		if err == nil || r.hurt.harmsServer {
			return nil
		}
		return &ownError{"take global settings back", err}
	}
	for _, s := range r.settings {
		if s == nil {
			continue
		}
		for _, set := range s.globals {
			if _, err := c.ExecContext(ctx, "SET GLOBAL "+set); err != nil {
				return nil, errors.Join(fmt.Errorf("SET GLOBAL %s: %w", set, err), restore())
			}
		}
	}
	return restore, nil
}
