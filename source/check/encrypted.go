package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"hb/source/datadir"
	"hb/source/mysqld"
	"hb/source/mysqld/contents"
	"hb/xbstream/innodb"
	"hb/xbstream/keyring"
)

// encryptedLogs are the settings with which a server encrypts what is not a tablespace, or
// is one for undo, of which page 0 does not tell.
var encryptedLogs = map[mysqld.Flavor][]struct{ variable, what string }{
	mysqld.MySQL:   {{"innodb_redo_log_encrypt", "the redo log"}, {"innodb_undo_log_encrypt", "undo tablespaces"}, {"binlog_encryption", "the binary log"}},
	mysqld.MariaDB: {{"innodb_encrypt_log", "the redo log"}, {"aria_encrypt_tables", "Aria tables"}},
}

// encryptedBySettings names what the server encrypts now, besides tablespaces of tables.
func (c *checker) encryptedBySettings() (what []string) {
	for _, set := range encryptedLogs[c.Server.Flavor] {
		if c.Server.Vars.Bool(set.variable) {
			what = append(what, set.what)
		}
	}
	return what
}

// tellEncryption reports what is encrypted at rest, with which keys, and what a restore
// needs.
func (c *checker) tellEncryption(ctx context.Context, f *Finding) error {
	list, err := c.List(ctx)
	if err != nil {
		return err
	}
	look, err := c.Inventory.Look(ctx, list.Tablespaces)
	if err != nil {
		return err
	}
	var names []string
	for _, t := range look.Files {
		if t.Space.Seals(false) {
			names = append(names, t.Name)
		}
	}
	system, err := c.encryptedFile(c.Layout.System[0], false)
	if err != nil {
		return err
	}
	if system {
		names = append(names, "the system tablespace")
	}
	c.describeEncryption(f, names, c.encryptedBySettings())
	return nil
}

func (c *checker) describeEncryption(f *Finding, names, others []string) {
	if len(names) == 0 && len(others) == 0 {
		f.Text = "nothing is encrypted at rest"
		return
	}
	slices.Sort(names)
	what := others
	if len(names) > 0 {
		what = append([]string{fmt.Sprintf("%d tablespaces: %s", len(names), examples(names))}, others...)
	}
	var used []string
	c.Keys.Each(func(k keyring.MariaDBKey, _ keyring.Secret) { used = append(used, k.String()) },
		func(name string, _ keyring.Secret) { used = append(used, name) })
	f.Facts = append(f.Facts, slog.Int("encrypted_tablespaces", len(names)))
	if len(others) > 0 {
		f.Facts = append(f.Facts, slog.Any("encrypted", others))
	}
	f.Text = strings.Join(what, "; ")
	if len(used) > 0 {
		f.Facts = append(f.Facts, slog.Any("keys", used))
		f.Text += "; with " + examples(used)
	}
	c.describeRestore(f)
}

// describeRestore reports which keys a restore of what is encrypted needs.
func (c *checker) describeRestore(f *Finding) {
	where, option := "the server's key file", "--key-file"
	if c.Server.Flavor == mysqld.MySQL {
		where, option = "the server's keyring file", "--keyring"
	}
	within := len(c.Options.Recipients) > 0 && !c.Keys.None() && len(c.Lacking) == 0
	f.Facts = append(f.Facts, slog.Bool("keys_in_backup", within))
	switch {
	case within:
		f.Text += "; the backup has the keys: a restore needs an identity of --encrypt-to, and no key file"
	case len(c.Options.Recipients) > 0 && len(c.Lacking) > 0:
		f.Warning = true
		f.Text += fmt.Sprintf("; hb was not given %v, so that the backup will not have all keys: a restore needs %s, of which you must keep a copy; or give it with %s", c.Lacking, where, option)
	case len(c.Options.Recipients) > 0:
		f.Warning = true
		f.Text += fmt.Sprintf("; hb has no keys to put into the backup: a restore needs %s, of which you must keep a copy; or give it with %s", where, option)
	default:
		f.Warning = true
		f.Text += fmt.Sprintf("; a restore needs %s, of which you must keep a copy; or let the backup have the keys with --encrypt-to", where)
		if c.Options.Stored.Encrypted {
			f.Text += " (it does not have them with --encrypt-passphrase-file)"
		}
	}
}

// encryptedFile reports whether the tablespace in a file is encrypted, by its page 0. One
// that is gone, or cannot be read as a tablespace, is not.
func (c *checker) encryptedFile(path string, linked bool) (encrypted bool, err error) {
	f, err := c.Disk.OpenRegular(path, linked)
	if err != nil {
		return false, datadir.IgnoreGone(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	page := make([]byte, innodb.MaxPageSize)
	n, err := f.ReadAt(page, 0)
	if err != nil && err != io.EOF {
		return false, err
	}
	space, err := innodb.ParseSpace(page[:n])
	return err == nil && space.Seals(false), nil
}

// lacksKeyring reports whether the backup needs the server's keyring, and this account may
// not ask where it is.
func (c *checker) lacksKeyring(ctx context.Context) (bool, error) {
	if c.Server.Flavor != mysqld.MySQL || !c.Server.Series.Encrypts || len(c.Keys.Sources()) > 0 {
		return false, nil
	}
	if file, err := contents.KeyringFile(ctx, c.Server); file != "" || err != nil {
		return false, err // of the plugin: a variable names it
	}
	if sees, err := contents.SeesKeyring(ctx, c.Server); sees || err != nil {
		return false, err
	}
	if len(c.encryptedBySettings()) > 0 {
		return true, nil
	}
	list, err := c.Layout.List()
	if err != nil {
		return false, nil // checkReadable has the words for it
	}
	for _, info := range list.Tablespaces {
		if is, err := c.encryptedFile(info.Path, info.Linked); is || err != nil {
			return is, nil // the same
		}
	}
	return false, nil
}
