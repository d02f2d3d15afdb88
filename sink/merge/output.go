package merge

import (
	"fmt"
	"io"
	"path"
	"slices"

	"hb/xbstream"
	"hb/xbstream/innodb"
	"hb/xbstream/keyring"
	"hb/xbstream/metadata"
)

// output is the archive that is written.
type output struct {
	w        *xbstream.Writer
	spaces   map[string]*innodb.SpaceID // of the files that are tablespaces
	tally    innodb.Tally
	manifest metadata.Manifest
}

func newOutput(w io.Writer) *output {
	return &output{w: xbstream.NewWriter(w), spaces: make(map[string]*innodb.SpaceID)}
}

// header writes hb-archive.json: that of the last increment, as a full backup.
func (o *output) header(last *metadata.Archive, opt Options) error {
	head := *last
	head.HBVersion, head.Options = opt.HBVersion, opt.Stored
	head.Options.Partial = last.Options.Partial || opt.Part != nil
	head.Version = head.Options.Version()
	text, err := head.Marshal()
	if err != nil {
		return err
	}
	if err := o.put(metadata.ArchiveName, text); err != nil {
		return err
	}
	return o.w.Cut()
}

// create begins a file of the server.
func (o *output) create(live *metadata.Live) (*xbstream.File, error) {
	o.spaces[live.Path] = live.Space
	return o.w.Create(live.Path)
}

// put writes a whole small file.
func (o *output) put(name string, content []byte) error {
	f, err := o.w.Create(name)
	if err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		return err
	}
	return f.Close()
}

// metadata puts out the files of the backup itself: the redo log and what the peers' tools
// read, those of the last increment, which become those of a full backup. reseal, if there is
// one, is for the backup's keys.
func (m *merger) metadata(last *step, reseal func([]byte) ([]byte, error)) error {
	for i := range last.Parts.Index.Files() {
		name := last.Parts.Path(i)
		if !isDescription(name) {
			continue
		}
		edit, most := edits[name], int64(metadata.MaxTextFile)
		if name == keyring.SealedName {
			edit, most = reseal, keyring.MaxSealed
		}
		if edit == nil {
			out, err := m.out.w.Create(name)
			if err != nil {
				return err
			}
			write := func(p []byte) error {
				_, err := out.Write(p)
				return err
			}
			if err := m.copyMember(last, name, write, out.Close); err != nil {
				return err
			}
			continue
		}
		f, err := last.member(name, m.cache)
		if err != nil {
			return err
		}
		text, err := f.all(most)
		if err != nil {
			return err
		}
		if text, err = edit(text); err != nil && name != keyring.SealedName {
			err = f.damage(err) // or an identity is what is wrong
		}
		if err != nil {
			return err
		}
		if err := m.out.put(name, text); err != nil {
			return err
		}
	}
	return nil
}

// isDescription reports whether a file of an increment is one of the result's, too: all of
// the backup's own but hb's, which hb writes again, and those that say what DDL did while the
// backup copied: the manifest has the names that files have in the end.
func isDescription(name string) bool {
	switch name {
	case metadata.ArchiveName, metadata.IndexName, metadata.ManifestName:
		return false
	}
	ext := path.Ext(name)
	return metadata.IsOwn(name) && ext != metadata.FixupDelete && ext != metadata.FixupRename
}

// edits make of an increment's files those of a full backup.
var edits = map[string]func([]byte) ([]byte, error){
	metadata.XtraBackupNames.Checkpoints: fullCheckpoints, metadata.MariaDBNames.Checkpoints: fullCheckpoints,
	metadata.XtraBackupNames.Info: fullInfo, metadata.MariaDBNames.Info: fullInfo,
}

func fullCheckpoints(text []byte) ([]byte, error) {
	c, err := metadata.UnmarshalCheckpoints(text)
	if err != nil {
		return nil, err
	}
	c.BackupType, c.FromLSN = metadata.FullBackup, 0
	return c.Marshal()
}

func fullInfo(text []byte) ([]byte, error) {
	i, err := metadata.UnmarshalInfo(text)
	if err != nil {
		return nil, err
	}
	i.Incremental, i.FromLSN = false, 0
	return i.Marshal()
}

// finish writes the index, and the manifest: that of the last increment, as a full backup; or
// as one of some tables, with that scope.
func (o *output) finish(last *step, scope *metadata.Scope) error {
	indexAt, err := o.index()
	if err != nil {
		return err
	}
	files := o.w.Ended()
	o.manifest = *last.manifest
	m := &o.manifest
	point := last.point()
	m.Since, m.StandsFor = nil, &point
	if scope != nil {
		m.Scope, m.StandsFor = scope, nil
		m.Encryption = m.Encryption.Of(func(name string) bool { return o.spaces[name] != nil })
	}
	m.Heads, m.Files, m.Bytes = metadata.CRC32(o.w.HeadsCRC32()), int64(len(files)), 0
	m.UnsummedPages, m.UnprovenPages = o.tally.Unsummed, o.tally.Unproven
	m.Warnings = slices.Clone(m.Warnings)
	for _, f := range files {
		m.Bytes += f.Size
	}
	out, err := o.w.Create(metadata.ManifestName)
	if err != nil {
		return err
	}
	w, err := metadata.NewManifestWriter(out, *m)
	if err != nil {
		return err
	}
	w.IndexAt = indexAt
	for _, f := range files {
		if err := w.Add(metadata.File{Path: f.Path, Size: f.Size, CRC32: f.CRC32, Space: o.spaces[f.Path]}); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	if err := o.w.Close(); err != nil {
		return fmt.Errorf("ending the archive: %w", err)
	}
	return nil
}

// index writes the index, and returns where it begins; 0: there can be none.
func (o *output) index() (at int64, err error) {
	index, ok := o.w.Index()
	if !ok {
		return 0, nil
	}
	if err := o.w.Cut(); err != nil {
		return 0, err
	}
	at = o.w.Written()
	return at, o.put(metadata.IndexName, index)
}
