package source

import (
	"math/bits"
	"strings"

	"hb/source/since"
	"hb/stream/disk"
	"hb/xbstream"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/delta"
	"hb/xbstream/metadata"
)

// increment is what an incremental backup has beyond a full one: it says of each file of
// the server, and of each file of its base, what became of it.
type increment struct {
	*backup
	base *since.Base
	kept []since.File // files of other engines that are not in the archive
	// tracked: only pages that the server says it changed were read.
	tracked bool
	// accounted are the files of the base, by their numbers, that are part of a live
	// file, or in whose place there is one.
	accounted []uint64
}

// beginIncrement has the backup leave out what its base has; nil: it is a full one.
func (b *backup) beginIncrement() {
	base := b.Base
	if base == nil {
		return
	}
	b.increment = &increment{backup: b, base: base, accounted: make([]uint64, (base.Len()+63)/64)}
	b.copier.Increment = b.Increment()
	b.copier.Increment.Temp = func() (disk.File, error) { return b.Disk.Temp(b.Options.Tmpdir) }
	b.registry.Suffix = len(delta.Ext)
}

// chooseFiles decides whether files of other engines that are as in the base are left out:
// only where they are much. Then checkpoints keeps the peers' tools from using the
// increment, as they would lose those files.
func (i *increment) chooseFiles() {
	var same int64
	for name, size := range i.stage.Sizes() {
		if old, ok := i.base.At(name); ok && old.Size == size {
			same += size
		}
	}
	if same > since.PeersCopy {
		i.stage.Kept = i.keep
	}
}

// fromLSN is the LSN of the base that the peers' tools compare with that of the directory
// which they are to put the increment onto; 0, which none has, keeps them from that.
func (i *increment) fromLSN() innodb.LSN {
	if len(i.kept) > 0 {
		return 0
	}
	return i.base.Manifest.CheckpointLSN
}

// keep decides whether a file of another engine is as it is in the base.
func (i *increment) keep(name string, size int64, sum func() (uint32, error)) (bool, error) {
	old, ok := i.base.At(name)
	if !ok || old.Pages || !old.HasCRC || old.Size != size {
		return false, nil
	}
	crc, err := sum()
	if err != nil || crc != old.CRC32 {
		return false, err
	}
	i.kept = append(i.kept, old)
	return true, nil
}

// since is what the manifest says of the base. It is for after the last file.
func (i *increment) since() (*metadata.Since, error) {
	m := i.base.Manifest
	s := &metadata.Since{Base: i.base.Point, FromLSN: m.FromLSN, CheckpointLSN: m.CheckpointLSN, LastLSN: m.LastLSN, PageTracking: i.tracked}
	err := i.live(func(l metadata.Live) error {
		s.Live++
		n := -1
		if l.From != "" {
			n = i.number(l.From)
		} else {
			n = i.number(l.Path) // it is replaced
		}
		if n >= 0 {
			i.accounted[n/64] |= 1 << (n % 64)
		}
		return nil
	})
	accounted := 0
	for _, word := range i.accounted {
		accounted += bits.OnesCount64(word)
	}
	s.Dropped = int64(i.base.Len() - accounted)
	return s, err
}

// number is that of a file of the base; -1: there is none.
func (i *increment) number(path string) int {
	if f, ok := i.base.At(path); ok {
		return f.Number
	}
	return -1
}

// live passes on each file of the server, always in the same order.
func (i *increment) live(yield func(metadata.Live) error) error {
	for _, a := range i.registry.Live(i.now) {
		l := metadata.Live{
			Path: a.Final, Size: a.Size, Kind: metadata.LiveNew, Space: &a.ID,
			Stored: a.Name + delta.Ext, Sum: &a.Sum,
		}
		if a.Partial {
			l.Sum = nil
		}
		if !a.Whole {
			old, _ := i.base.Tablespace(a.ID, a.Name)
			l.Kind, l.From, l.Zero = metadata.LiveChanged, old.Path, a.Zero
		}
		if err := yield(l); err != nil {
			return err
		}
	}
	for _, f := range i.archive.w.Ended() {
		if i.isOther(f) {
			if err := yield(metadata.Live{Path: f.Path, Size: f.Size, Kind: metadata.LiveCopied, Stored: f.Path, CRC32: &f.CRC32}); err != nil {
				return err
			}
		}
	}
	for _, f := range i.kept {
		if err := yield(metadata.Live{Path: f.Path, Size: f.Size, Kind: metadata.LiveKept, From: f.Path, CRC32: &f.CRC32}); err != nil {
			return err
		}
	}
	return nil
}

// isOther reports whether a file of the archive is one of the server's as it is.
func (i *increment) isOther(f xbstream.EndedFile) bool {
	if metadata.IsOwn(f.Path) {
		return false
	}
	for _, suffix := range i.copier.Suffixes() {
		if name, ok := strings.CutSuffix(f.Path, suffix); ok {
			if _, pages := i.registry.SpaceOf(name); pages {
				return false
			}
		}
	}
	return true
}

// write lists the live and the dropped files.
func (i *increment) write(w *metadata.ManifestWriter) error {
	if err := i.live(w.AddLive); err != nil {
		return err
	}
	for f := range i.base.Files() {
		if i.accounted[f.Number/64]>>(f.Number%64)&1 == 0 {
			if err := w.AddDropped(f.Path); err != nil {
				return err
			}
		}
	}
	return nil
}
