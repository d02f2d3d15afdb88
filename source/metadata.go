package source

import (
	"context"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"hb/source/datadir"
	"hb/source/mysqld"
	"hb/source/mysqld/contents"
	"hb/source/mysqld/locks"
	"hb/xbstream"
	"hb/xbstream/innodb"
	"hb/xbstream/keyring"
	"hb/xbstream/metadata"
)

// sendArchiveHeader writes the archive's first file, which can be read without the
// rest.
func (b *backup) sendArchiveHeader() error {
	head := metadata.Archive{
		HBVersion:    b.Options.ToolVersion,
		ServerFlavor: b.sequence.flavor, ServerVersion: b.Server.Version.Full,
		PageSize: b.PageSize, StartLSN: b.follower.Checkpoint().LSN,
		RedoFormat: b.follower.Format().String(), Created: b.started.UTC(),
		Options: b.Options.Stored,
	}
	head.Options.Incremental = b.increment != nil
	head.Options.Partial = b.Layout.Scope != nil
	head.Version = head.Options.Version()
	text, err := head.Marshal()
	if err != nil {
		return err
	}
	if b.Options.Manifest != nil {
		if _, err := b.Options.Manifest.Write(text); err != nil {
			return err
		}
	}
	if err := b.archive.put(metadata.ArchiveName, text); err != nil {
		return err
	}
	return b.archive.w.Cut()
}

// sendMetadata writes what describes the backup: the peers' files, and last the
// manifest, which proves that nothing is missing.
func (b *backup) sendMetadata(ctx context.Context) error {
	if err := b.sendFixups(); err != nil {
		return err
	}
	peer := peerFiles{
		Subject: b.Subject, at: b.at, newest: b.newest, started: b.started, format: b.sequence.infoFormat,
		commitsBlocked: lockTime(b.locks.Times(), locks.BlocksCommits), external: b.family.externalSpaces(),
	}
	if b.increment != nil {
		peer.incremental, peer.fromLSN = true, b.increment.fromLSN()
	}
	files, err := peer.all(ctx)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := b.archive.put(f.name, f.content); err != nil {
			return err
		}
	}
	server := metadata.Archive{ServerFlavor: b.sequence.flavor, ServerVersion: b.Server.Version.Full}
	if err := b.definitions.Send(ctx, b.archive.output, server.Server()); err != nil {
		return err
	}
	if err := b.sendKeys(ctx); err != nil {
		return err
	}
	return b.sendManifest()
}

// sendKeys writes the keys that a restore needs, if there are recipients to encrypt them
// to.
func (b *backup) sendKeys(ctx context.Context) error {
	if len(b.Options.Recipients) == 0 {
		return nil
	}
	if err := b.askKeys(ctx); err != nil {
		return err
	}
	content, err := b.Keys.Seal(b.Options.Recipients)
	if err != nil || content == nil {
		return err
	}
	b.keysSent = true
	return b.archive.put(keyring.SealedName, content)
}

// encryption describes what of the backup is encrypted at rest, as far as all families know it.
func (b *backup) encryption() *metadata.Encryption {
	var names []string
	var keys []keyring.MariaDBKey
	note := func(name string, s *innodb.Space) {
		if !s.Seals(false) {
			return
		}
		names = append(names, name)
		if !s.MySQLEncrypted() { // whose master key was used
			keys = append(keys, keyring.MariaDBKey{ID: s.Encryption.KeyID, Version: max(1, s.Encryption.MinVersion)})
		}
	}
	note(filepath.Base(b.Layout.System[0]), &b.system)
	for _, t := range b.last.Files {
		note(t.Name, &t.Space.Space)
	}
	needed := make(map[string]bool)
	if len(b.last.Deferred) > 0 && b.Server.Flavor == mysqld.MariaDB { // only the redo log has their page 0
		for _, t := range b.last.Deferred {
			if key, is := b.young[strings.TrimSuffix(t.Name, ".ibd")]; is {
				names, keys = append(names, t.Name), append(keys, key)
			}
		}
		for name := range b.manifest.KeyChecks { // that of a table that was renamed or dropped since
			needed[name] = true
		}
	}
	e := &metadata.Encryption{KeysWithin: b.keysSent}
	for _, key := range keys {
		needed[key.String()] = true
		e.KeysWithin = e.KeysWithin && b.Keys.Has(key)
	}
	b.Keys.Each(func(k keyring.MariaDBKey, _ keyring.Secret) { needed[k.String()] = true }, func(name string, _ keyring.Secret) { needed[name] = true })
	e.SetNames(names)
	e.SetKeys(slices.Collect(maps.Keys(needed)))
	if b.follower.Sealed() {
		e.Others = append(e.Others, metadata.EncryptedRedo)
	}
	if b.stage.EncryptedAria() {
		e.Others = append(e.Others, metadata.EncryptedAria)
	}
	return e
}

// askKeys has the program that prints MariaDB's keys print those of all tablespaces, which a
// backup need not decrypt, for the archive to have them: at the beginning, and at the end, when
// there may be others.
func (b *backup) askKeys(ctx context.Context) error {
	if len(b.Options.Recipients) == 0 || !b.Keys.Asks() {
		return nil
	}
	names, err := contents.TablespaceKeys(ctx, b.Server)
	for _, name := range names {
		if _, e := b.Keys.MariaDB(name); e != nil {
			return fmt.Errorf("keys for the archive: %w", e)
		}
	}
	return err
}

// archive is the stream being written, and the names in it.
type archive struct {
	w *xbstream.Writer

	mu    sync.Mutex
	names datadir.NameSet
}

// create begins a file. A name that cannot be extracted beside the earlier ones is an
// error, whatever the cause.
func (a *archive) create(name string) (*xbstream.File, error) {
	if err := a.enter(name); err != nil {
		return nil, err
	}
	return a.w.Create(name)
}

func (a *archive) enter(name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.names == nil {
		a.names = make(datadir.NameSet)
	}
	return a.names.Add(name, "of the backup")
}

// put writes a whole small file.
func (a *archive) put(name string, content []byte) error {
	f, err := a.create(name)
	if err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return f.Close()
}

// output is create for callers that need to know no more of the file.
func (a *archive) output(name string) (io.WriteCloser, error) { return a.create(name) }

// dropped returns the directories in the archive that are no longer databases.
func (a *archive) dropped(databases []string) []string {
	dropped := make(map[string]bool)
	for _, f := range a.w.Ended() {
		if db, _, in := strings.Cut(f.Path, "/"); in {
			dropped[db] = true
		}
	}
	for _, db := range databases {
		delete(dropped, db)
	}
	return slices.Sorted(maps.Keys(dropped))
}

// sendFixups writes the files that bring names to their final state, and one
// for each database that has no file, so that its directory is made.
func (b *backup) sendFixups() error {
	fixups := b.registry.Fixups(b.now)
	for _, name := range slices.Sorted(maps.Keys(fixups)) {
		if err := b.archive.put(name, []byte(fixups[name])); err != nil {
			return err
		}
	}
	has := make(map[string]bool)
	for _, f := range b.archive.w.Ended() {
		db, _, _ := strings.Cut(f.Path, "/")
		has[db] = true
	}
	if b.increment != nil {
		for _, f := range b.increment.kept {
			db, _, _ := strings.Cut(f.Path, "/")
			has[db] = true
		}
	}
	for _, db := range b.databases {
		if !has[db] {
			if err := b.archive.put(db+"/db.opt", nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// lockTime is for how long any lock of a list blocked what is named. The list is in
// the order in which hb asked for the locks: waiters queue up from that moment on.
func lockTime(list []locks.Timing, what locks.Blocks) time.Duration {
	var d time.Duration
	var until time.Time
	for _, l := range list {
		end := l.Began.Add(l.Wait + l.Held)
		if l.Blocks&what == 0 || !end.After(until) {
			continue
		}
		from := l.Began
		if until.After(from) {
			from = until // locks may be held together
		}
		d += end.Sub(from)
		until = end
	}
	return d
}

// sendIndex writes the index of all files so far, and returns where it begins in the
// archive; 0: the archive is too large for one, and has none. What stages gather is
// cut before it, so that the end of an archive can be read without the rest.
func (a *archive) sendIndex() (at int64, err error) {
	index, ok := a.w.Index()
	if !ok {
		return 0, nil
	}
	if err := a.w.Cut(); err != nil {
		return 0, err
	}
	at = a.w.Written()
	return at, a.put(metadata.IndexName, index)
}

// sendManifest writes the archive's last files, the index and the manifest.
func (b *backup) sendManifest() error {
	indexAt, err := b.archive.sendIndex()
	if err != nil {
		return err
	}
	b.manifest = metadata.Manifest{
		Version: metadata.ManifestVersion, Server: b.Identity,
		FromLSN: b.follower.Checkpoint().LSN, CheckpointLSN: b.newest, LastLSN: b.at.LSN,
		Heads: metadata.CRC32(b.archive.w.HeadsCRC32()), Binlog: b.at.Binlog, Start: b.started.UTC(), End: time.Now().UTC(),
		Locks: metadata.LockTimes{
			DDL:    lockTime(b.locks.Times(), locks.BlocksDDL).Milliseconds(),
			Commit: lockTime(b.locks.Times(), locks.BlocksCommits).Milliseconds(),
		},
	}
	if b.increment != nil {
		if b.manifest.Since, err = b.increment.since(); err != nil {
			return err
		}
	}
	if b.manifest.Scope = b.Layout.Scope.Asked(); b.manifest.Scope != nil {
		b.manifest.Scope.LeftOut = b.leftOut
	}
	b.manifest.KeyChecks = b.Keys.Checks()
	b.manifest.Encryption = b.encryption()
	b.family.describe(&b.manifest)
	if !b.manifest.Encryption.Any() && b.manifest.KeyChecks == nil {
		b.manifest.Encryption = nil
	}
	tally := b.copier.Tally()
	b.manifest.UnsummedPages, b.manifest.UnprovenPages = tally.Unsummed, tally.Unproven
	if text := tally.Describe(); text != "" {
		b.Warn("%s", text)
	}
	for _, w := range b.Warnings() {
		b.manifest.AddWarning(w)
	}
	b.manifest.DroppedDatabases = b.archive.dropped(b.databases)
	files := b.archive.w.Ended()
	b.manifest.Files = int64(len(files))
	for _, f := range files {
		b.manifest.Bytes += f.Size
	}
	out, err := b.archive.create(metadata.ManifestName)
	if err != nil {
		return err
	}
	to := io.Writer(out)
	if b.Options.Manifest != nil {
		to = io.MultiWriter(out, b.Options.Manifest)
	}
	w, err := metadata.NewManifestWriter(to, b.manifest)
	if err != nil {
		return err
	}
	w.IndexAt = indexAt
	for _, f := range files {
		line := metadata.File{Path: f.Path, Size: f.Size, CRC32: f.CRC32}
		if id, ok := b.registry.SpaceOf(f.Path); ok {
			line.Space = &id
		}
		if err := w.Add(line); err != nil {
			return err
		}
	}
	if b.increment != nil {
		if err := b.increment.write(w); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return out.Close()
}
