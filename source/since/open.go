package since

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"hb/stream"
	"hb/stream/remote"
	"hb/xbstream/metadata"
)

// Open reads a base: the manifest of a backup, as hb backup --manifest-out or hb list
// --manifest write it; an archive, a file or an address, of which it reads only what it
// needs; or the directory of a backup that was extracted and not applied.
func Open(ctx context.Context, name string) (*Base, error) {
	b, err := open(ctx, name)
	if err != nil {
		shown := (&stream.ReadFlags{Archive: name}).Name()
		if _, usage := errors.AsType[*stream.UsageError](err); usage {
			return nil, err
		}
		return nil, fmt.Errorf("the base %s: %w", shown, err)
	}
	return b, nil
}

func open(ctx context.Context, name string) (*Base, error) {
	b := &Base{Name: (&stream.ReadFlags{Archive: name}).Name()}
	if remote.Is(name) {
		return b, b.readArchive(ctx, name)
	}
	st, err := os.Stat(name)
	if err != nil {
		return nil, stream.AsUsage(err)
	}
	if st.IsDir() {
		return b, b.readDirectory(name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, stream.AsUsage(err)
	}
	var first [1]byte
	if _, err := f.ReadAt(first[:], 0); err != nil && err != io.EOF {
		return nil, errors.Join(err, f.Close())
	}
	if first[0] != '{' { // neither an archive nor a stage of one begins so
		return b, errors.Join(f.Close(), b.readArchive(ctx, name))
	}
	return b, errors.Join(b.readManifest(f), f.Close())
}

// readManifest reads both files, one after the other.
func (b *Base) readManifest(f io.Reader) error {
	r := bufio.NewReaderSize(f, metadata.MaxArchiveSize+1)
	head, err := r.Peek(metadata.MaxArchiveSize + 1)
	if err != nil && err != io.EOF {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(head))
	var value json.RawMessage
	if err := dec.Decode(&value); err != nil {
		return &DamageError{fmt.Errorf("it does not begin with a whole %s: %w", metadata.ArchiveName, noEOF(err))}
	}
	n := int(dec.InputOffset())
	if n == len(head) || head[n] != '\n' {
		return fmt.Errorf("it ends with %s, or has something else than a manifest after it: %w", metadata.ArchiveName, io.ErrUnexpectedEOF)
	}
	text := bytes.Clone(head[:n+1])
	if _, err := r.Discard(len(text)); err != nil {
		return err
	}
	return b.read(text, func(w io.Writer) error {
		_, err := io.Copy(w, r)
		return err
	})
}

// DamageError says that what should be the manifest of a base is not one.
type DamageError struct{ Err error }

func (e *DamageError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e *DamageError) Unwrap() error { return e.Err }

// noEOF makes of an end of file, where bytes must be, an error.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Marks are files in a directory that is not, or not any more, the backup that was
// extracted, and why.
var Marks = []struct{ Name, What string }{
	{"hb-incomplete", "it was not extracted completely: extract the backup again"},
	{"hb-partial", "only some of the backup's files were extracted into it"},
	{"hb-applying", "hb apply has begun to change it"},
	{"hb-applied.json", "hb apply has recovered it"},
	{"hb-by-server", "hb apply has made it ready for a server"},
}

// DirectoryError says that a directory cannot be the base of an incremental backup.
type DirectoryError struct{ Path, What string }

func (e *DirectoryError) Error() string {
	return fmt.Sprintf("%s: %s; an incremental backup needs its base as hb extract made it, or the archive, or its manifest (hb list --manifest)", e.Path, e.What)
}

func (b *Base) readDirectory(dir string) error {
	for _, mark := range Marks {
		switch _, err := os.Lstat(filepath.Join(dir, mark.Name)); {
		case err == nil:
			return &DirectoryError{dir, mark.What}
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	f, err := os.Open(filepath.Join(dir, metadata.ArchiveName))
	if errors.Is(err, fs.ErrNotExist) {
		return &DirectoryError{dir, "it has no " + metadata.ArchiveName + ": hb did not extract it"}
	}
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(f, metadata.MaxArchiveSize+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	m, err := os.Open(filepath.Join(dir, metadata.ManifestName))
	if err != nil {
		return err
	}
	return errors.Join(b.read(text, func(w io.Writer) error {
		_, err := io.Copy(w, m)
		return err
	}), m.Close())
}

// readArchive reads an archive by its index.
func (b *Base) readArchive(ctx context.Context, name string) error {
	flags := &stream.ReadFlags{Archive: name}
	in, err := flags.OpenParts(ctx, nil, nil)
	if _, encrypted := errors.AsType[*stream.EncryptedError](err); encrypted {
		return fmt.Errorf("%w: give its manifest instead (hb list --manifest, or hb backup --manifest-out)", err)
	}
	if err != nil {
		return err
	}
	if in.Parts == nil {
		err = errors.New("it is no archive that can be read from the middle: give its manifest instead (hb list --manifest)")
	} else {
		var header []byte
		if header, err = in.Parts.Header(); err == nil {
			err = b.read(header, in.Parts.WriteManifest)
		}
	}
	return errors.Join(err, in.Close())
}

// read takes hb-archive.json, and the manifest from what copies it.
func (b *Base) read(archive []byte, manifest func(io.Writer) error) (err error) {
	if b.Archive, err = metadata.UnmarshalArchive(archive); err != nil {
		return &DamageError{err}
	}
	var deleted []string
	whole := false // hb-archive.json is as the manifest says
	p := metadata.NewManifestParser(nil, nil)
	full := func(f metadata.File) error {
		if table, ok := strings.CutSuffix(f.Path, metadata.FixupDelete); ok {
			deleted = append(deleted, table)
		}
		if f.Path == metadata.ArchiveName {
			whole = f.Size == int64(len(archive)) && f.CRC32 == crc32.ChecksumIEEE(archive)
		}
		if p.Manifest().Since != nil || metadata.IsOwn(f.Path) {
			return nil
		}
		file := File{Path: f.Path, Size: f.Size, CRC32: f.CRC32, HasCRC: true}
		if f.Space != nil {
			file.Pages, file.Space = true, *f.Space
		}
		b.add(file)
		return nil
	}
	p = metadata.NewManifestParser(nil, full)
	p.Live = func(l metadata.Live) error {
		file := File{Path: l.Path, Size: l.Size}
		if l.Space != nil {
			file.Pages, file.Space = true, *l.Space
		}
		if l.CRC32 != nil {
			file.HasCRC, file.CRC32 = true, *l.CRC32
		}
		b.add(file)
		return nil
	}
	id := metadata.NewPointHash(archive)
	if err := manifest(io.MultiWriter(id, parsing{p})); err != nil {
		return err
	}
	if err := p.Close(); err != nil {
		return &DamageError{err}
	}
	if b.Manifest = p.Manifest(); !whole {
		return &DamageError{fmt.Errorf("its %s is damaged, or of another backup than %s", metadata.ArchiveName, metadata.ManifestName)}
	}
	b.Point = b.Manifest.Point(id.Sum())
	if err := b.index(deleted); err != nil {
		return &DamageError{err}
	}
	return nil
}

// parsing marks the errors of a parser, so that they are not taken for those of reading.
type parsing struct{ *metadata.ManifestParser }

func (p parsing) Write(b []byte) (int, error) {
	n, err := p.ManifestParser.Write(b)
	if err != nil {
		err = &DamageError{err}
	}
	return n, err
}
