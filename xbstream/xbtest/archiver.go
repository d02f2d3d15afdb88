// Package xbtest makes archives for tests.
package xbtest

import (
	"bytes"
	"time"

	"hb/xbstream"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/metadata"
)

// Archiver makes an archive of hb's, with hb's own writer. Finish tells of the first
// error.
type Archiver struct {
	Out  bytes.Buffer
	w    *xbstream.Writer
	m    metadata.Manifest
	sums []metadata.File
	err  error // the first
}

// What sample archives have: the LSN where the redo begins, and the pages.
const (
	SampleStart = innodb.LSN(50000)
	SamplePage  = 4 << 10
)

// NewArchiver begins the archive of a MariaDB 10.11 with redo from from to last.
func NewArchiver(from, last innodb.LSN) *Archiver {
	a := &Archiver{}
	a.w = xbstream.NewWriter(&a.Out)
	now := time.Unix(1_800_000_000, 0).UTC()
	a.m = metadata.Manifest{FromLSN: from, CheckpointLSN: from, LastLSN: last, Start: now, End: now.Add(time.Minute),
		Binlog: &metadata.BinlogPos{File: "binlog.000003", Pos: 1234, GTID: "0-1-77"}}
	head, err := (&metadata.Archive{
		Version: metadata.ArchiveVersion, HBVersion: "test", ServerFlavor: metadata.FlavorMariaDB,
		ServerVersion: "10.11.18-MariaDB", PageSize: SamplePage, StartLSN: from, RedoFormat: mariadbredo.Format108.String(), Created: now,
	}).Marshal()
	a.note(err)
	a.Put(metadata.ArchiveName, head)
	return a
}

func (a *Archiver) note(err error) {
	if a.err == nil {
		a.err = err
	}
}

// Create begins a file.
func (a *Archiver) Create(name string) *xbstream.File {
	f, err := a.w.Create(name)
	a.note(err)
	return f
}

// Write adds to a file.
func (a *Archiver) Write(f *xbstream.File, content []byte) {
	if f != nil {
		_, err := f.Write(content)
		a.note(err)
	}
}

// End ends a file.
func (a *Archiver) End(f *xbstream.File) {
	if f == nil {
		return
	}
	a.note(f.Close())
	a.sums = append(a.sums, metadata.File{Path: f.Path(), Size: f.Sum().Size, CRC32: f.Sum().CRC32})
	a.m.Files++
	a.m.Bytes += f.Sum().Size
}

// Put adds a whole file.
func (a *Archiver) Put(name string, content []byte) {
	f := a.Create(name)
	a.Write(f, content)
	a.End(f)
}

// Finish writes the manifest and returns the archive.
func (a *Archiver) Finish() ([]byte, error) {
	a.m.Heads = metadata.CRC32(a.w.HeadsCRC32())
	out := a.Create(metadata.ManifestName)
	if a.err != nil {
		return nil, a.err
	}
	w, err := metadata.NewManifestWriter(out, a.m)
	if err != nil {
		return nil, err
	}
	for _, f := range a.sums {
		a.note(w.Add(f))
	}
	a.note(w.Close())
	a.note(out.Close())
	a.note(a.w.Close())
	return a.Out.Bytes(), a.err
}
