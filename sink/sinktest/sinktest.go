// Package sinktest has damaged archives for tests, in all forms in which archives
// travel, and the readers that must not take one of them for good.
package sinktest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"filippo.io/age"

	"hb/sink/backupdir"
	"hb/sink/catalog"
	"hb/sink/extract"
	"hb/sink/verify"
	"hb/stream"
	"hb/xbstream"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/metadata"
	"hb/xbstream/xbtest"
)

// Form is an archive in one of the forms in which it travels.
type Form struct {
	Name    string
	Bytes   []byte
	Options stream.Options // to read it
	Units   []int          // where its chunks, blocks or sealed parts begin, and its end
}

// Forms are the sample archive in all four forms.
func Forms(t testing.TB) []*Form {
	t.Helper()
	plain, err := xbtest.Sample()
	if err != nil {
		t.Fatal(err)
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	opts := stream.Options{Identities: []age.Identity{id}}
	to, zst := []age.Recipient{id.Recipient()}, &stream.Compression{Threads: 1}
	all := []*Form{{Name: "plain"}, {Name: "zstd"}, {Name: "age"}, {Name: "zstd and age"}}
	for i, write := range []stream.WriteOptions{{}, {Compress: zst}, {Recipients: to}, {Compress: zst, Recipients: to}} {
		var out bytes.Buffer
		w, err := stream.Create(&out, write)
		if err != nil {
			t.Fatal(err)
		}
		for part := range slices.Chunk(plain, 20_000) { // as they come, not in one piece
			if _, err := w.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		all[i].Bytes, all[i].Options = out.Bytes(), opts
	}
	all[0].Units = chunkStarts(t, all[0].Bytes)
	all[1].Units = split(zstdFrames(all[1].Bytes))
	all[2].Units = split(ageParts(all[2].Bytes))
	all[3].Units = split(ageParts(all[3].Bytes))
	return all
}

// chunkStarts are where the chunks of an archive begin, and its end.
func chunkStarts(t testing.TB, archive []byte) []int {
	t.Helper()
	var at []int
	rd := xbstream.NewReader(bytes.NewReader(archive), xbstream.ReaderOptions{})
	for {
		ch, err := rd.Next()
		if err == io.EOF {
			return append(at, len(archive))
		}
		if err != nil {
			t.Fatal(err)
		}
		at = append(at, int(ch.At))
	}
}

// zstdFrames are where the frames that hb makes begin, each with its header, and
// the mark at the end.
func zstdFrames(file []byte) []int {
	const mark, head = 8 + 4, 8 + 8 // skippable frames
	var at []int
	p := mark
	for ; file[p+4] == head-8; p += head + int(binary.LittleEndian.Uint32(file[p+8:])) {
		at = append(at, p)
	}
	return append(at, p)
}

// ageParts are where the sealed parts of an age file begin, 64 KiB and a tag
// each, and its end. The nonce before the first is 16 bytes.
func ageParts(file []byte) []int {
	footer := bytes.Index(file, []byte("\n--- "))
	header := footer + 1 + bytes.IndexByte(file[footer+1:], '\n') + 1
	var at []int
	for p := header + 16; p < len(file); p += 64<<10 + 16 {
		at = append(at, p)
	}
	return append(at, len(file))
}

// split divides units larger than a page, of which the sample would have few.
func split(units []int) []int {
	var at []int
	for i := range len(units) - 1 {
		for p := units[i]; p < units[i+1]; p += xbtest.SamplePage {
			at = append(at, p)
		}
	}
	return append(at, units[len(units)-1])
}

// Damage is one way to damage an archive.
type Damage struct {
	What    string
	Archive func() []byte // makes the damaged archive
	Codes   []int         // the exit codes that are right for it
}

// changed are the exit codes of a changed archive: cut where a length was changed,
// damaged, or encrypted to somebody else.
var changed = []int{6, 7, 10}

// Cut leaves only the first n bytes.
func (f *Form) Cut(n int) Damage {
	return Damage{
		What:    fmt.Sprintf("cut at byte %d of %d", n, len(f.Bytes)),
		Archive: func() []byte { return f.Bytes[:n] },
		Codes:   []int{6},
	}
}

// Flip changes one bit.
func (f *Form) Flip(bit int) Damage {
	return Damage{
		What: fmt.Sprintf("bit %d of byte %d", bit%8, bit/8),
		Archive: func() []byte {
			bad := bytes.Clone(f.Bytes)
			bad[bit/8] ^= 1 << (bit % 8)
			return bad
		},
		Codes: changed,
	}
}

// Move drops, doubles or swaps whole units at random.
func (f *Form) Move(rng *rand.Rand) Damage {
	n := len(f.Units) - 1
	unit := func(i int) []byte { return f.Bytes[f.Units[i]:f.Units[i+1]] }
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	i := rng.IntN(n)
	var what string
	switch kind := rng.IntN(4); kind {
	case 0:
		what, order = fmt.Sprintf("part %d dropped", i), slices.Delete(order, i, i+1)
	case 1:
		what, order = fmt.Sprintf("part %d doubled", i), slices.Insert(order, i, i)
	case 2:
		at := rng.IntN(n)
		what, order = fmt.Sprintf("part %d again at %d", i, at), slices.Insert(order, at, i)
	case 3:
		j := rng.IntN(n)
		for j == i || bytes.Equal(unit(i), unit(j)) {
			j = rng.IntN(n)
		}
		what, order[i], order[j] = fmt.Sprintf("parts %d and %d swapped", i, j), j, i
	}
	return Damage{
		What: what, Codes: changed,
		Archive: func() []byte {
			moved := bytes.Clone(f.Bytes[:f.Units[0]])
			for _, i := range order {
				moved = append(moved, unit(i)...)
			}
			return moved
		},
	}
}

// Reader is a command that reads an archive.
type Reader struct {
	Name string
	// read reads an archive without its stages. dir is a directory of its own,
	// which does not exist.
	read func(ctx context.Context, in io.Reader, dir string) error
	// Args are the options of the command that say where dir is.
	Args func(dir string) []string
}

func noArgs(string) []string { return nil }

// Readers are all that must never take a damaged archive for a good one.
var Readers = []Reader{
	{"list", func(ctx context.Context, in io.Reader, _ string) error {
		_, err := catalog.List(ctx, in, func(catalog.Entry) error { return nil })
		return err
	}, noArgs},
	{"extract", func(ctx context.Context, in io.Reader, dir string) error {
		_, err := extract.Run(ctx, in, dir, extract.Options{Parallel: 2})
		return err
	}, func(dir string) []string { return []string{"-C", dir} }},
	{"verify", func(ctx context.Context, in io.Reader, _ string) error {
		_, err := verify.Archive(ctx, in, verify.Options{Parallel: 2})
		return err
	}, noArgs},
}

// Read reads bytes that should be the archive as the command does, which may make the
// directory dir.
func (f *Form) Read(ctx context.Context, r Reader, archive []byte, dir string) error {
	in, err := stream.Open(bytes.NewReader(archive), f.Options)
	if err != nil {
		return err
	}
	return errors.Join(r.read(ctx, in, dir), in.Close())
}

// Code is the exit code that an error of those who read an archive or a directory has,
// by its type; 0: another type.
func Code(err error) int {
	switch {
	case has[*innodb.UnsupportedError](err), has[*metadata.VersionError](err),
		has[*mariadbredo.UnsupportedError](err), has[*mysqlredo.UnsupportedError](err), has[*mysqlredo.FlagsError](err):
		return 4
	case has[*catalog.IncompleteError](err), has[*backupdir.MissingError](err), errors.Is(err, io.ErrUnexpectedEOF):
		return 6
	case has[*xbstream.CorruptError](err), has[*stream.DamageError](err), has[*stream.NotArchiveError](err), has[*backupdir.DamageError](err):
		return 7
	case has[*backupdir.TargetError](err), has[*backupdir.NotBackupError](err):
		return 8
	case has[*stream.EncryptedError](err):
		return 10
	}
	return 0
}

func has[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}
