// Package infofile maintains the status file of a backup (--info-file), for
// monitoring.
//
// The file is written when the backup begins and again when it ends, well or not,
// each time as a whole: who reads it never sees a part. A backup that was killed
// leaves it saying that it runs.
package infofile

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"hb/source/mysqld/locks"
	"hb/stream"
	"hb/stream/disk"
	"hb/xbstream/metadata"
)

// Version is that of the file's format. Fields may be added without a new one.
const Version = 1

// Status is what became of a backup.
type Status string

const (
	Running  Status = "running"  // or killed: see Info.PID
	Complete Status = "complete" // and so is the archive
	Failed   Status = "failed"
)

// Info is the content of the file, as one JSON object.
type Info struct {
	Version   int       `json:"hb_info"` // Version
	Status    Status    `json:"status"`
	HBVersion string    `json:"hb_version"`
	Command   string    `json:"command"` // without passwords
	PID       int       `json:"pid"`
	Start     time.Time `json:"start"`
	End       time.Time `json:"end,omitzero"`
	Seconds   float64   `json:"seconds,omitempty"`

	// Of a backup that ended. An exit code of 0 and a complete archive are one.
	ExitCode *int   `json:"exit_code,omitempty"`
	Error    string `json:"error,omitempty"`
	Phase    string `json:"phase,omitempty"` // in which it failed

	Server       string                `json:"server,omitempty"` // family and version, if it was reached
	Options      metadata.ArchiveFlags `json:"options"`
	Bytes        int64                 `json:"bytes"`         // that standard output took
	ArchiveBytes int64                 `json:"archive_bytes"` // before compression; 0 if it failed
	Locks        []locks.Timing        `json:"locks,omitempty"`
	Warnings     []string              `json:"warnings,omitempty"`

	// Manifest is the first line of the archive's manifest, if that is complete.
	Manifest *metadata.Manifest `json:"manifest,omitempty"`
}

// File is the file of one backup. Without a path it is nil, and all methods do
// nothing. They may be called by several goroutines.
type File struct {
	system disk.System
	path   string
	mu     sync.Mutex
	info   Info
}

// Create writes the file at path, which must be a regular file or not there, and
// not the archive: it says that a backup of that command is running. An error is a
// *stream.UsageError.
func Create(path string, archive *os.File, command, version string) (_ *File, err error) {
	if path == "" {
		return nil, nil
	}
	defer func() { err = stream.AsUsage(err) }()
	if path, err = aside(path, archive); err != nil {
		return nil, err
	}
	return createOn(disk.OS, path, command, version)
}

// aside makes sure that a file is not the archive, and returns its place.
func aside(path string, archive *os.File) (string, error) {
	a, err := archive.Stat()
	if err != nil {
		return "", fmt.Errorf("looking at the archive: %w", err)
	}
	if st, err := os.Stat(path); err == nil && os.SameFile(a, st) {
		return "", fmt.Errorf("%s is where the archive goes", path)
	}
	return place(disk.OS, path)
}

// Check reports what would keep Create from writing the file at path, as a
// *stream.UsageError.
func Check(path string) (err error) {
	if path == "" {
		return nil
	}
	defer func() { err = stream.AsUsage(err) }()
	path, err = place(disk.OS, path)
	if err != nil {
		return err
	}
	if dir := filepath.Dir(path); disk.Access(dir, disk.Writable|disk.Searchable) != nil {
		return fmt.Errorf("%s cannot be written: no file can be made in %s", path, dir)
	}
	return nil
}

// place is where the file at path is: a link stays one, and leads there.
func place(system disk.System, path string) (string, error) {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	if st, err := system.Stat(path); err == nil && !st.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a regular file (%v)", path, st.Mode().Type())
	}
	return path, nil
}

func createOn(system disk.System, path, command, version string) (*File, error) {
	path, err := place(system, path)
	if err != nil {
		return nil, err
	}
	f := &File{system: system, path: path, info: Info{
		Version: Version, Status: Running, HBVersion: version, Command: command,
		PID: os.Getpid(), Start: time.Now().UTC(),
	}}
	return f, f.write()
}

// Note lets change update the status that the file will have.
func (f *File) Note(change func(*Info)) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.info)
}

// Warn adds a warning.
func (f *File) Warn(text string) {
	f.Note(func(i *Info) { i.Warnings = append(i.Warnings, text) })
}

// End writes how the backup ended: well, or with an error, the command's exit code and
// why. It returns that error, and what became of the writing.
func (f *File) End(backup error, code int, why string) error {
	if backup != nil {
		return errors.Join(backup, f.end(Failed, code, why))
	}
	if err := f.end(Complete, 0, ""); err != nil {
		return fmt.Errorf("the archive is complete, but %w", err)
	}
	return nil
}

func (f *File) end(s Status, code int, why string) error {
	if f == nil {
		return nil
	}
	f.Note(func(i *Info) {
		i.Status, i.ExitCode, i.Error = s, &code, why
		i.End = time.Now().UTC()
		i.Seconds = i.End.Sub(i.Start).Round(time.Millisecond).Seconds()
	})
	return f.write()
}

// write replaces the file.
func (f *File) write() (err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing the status file %s: %w", f.path, err)
		}
	}()
	text, err := json.MarshalIndent(&f.info, "", "  ")
	if err != nil {
		return err
	}
	d, err := f.system.OpenDir(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	name := filepath.Base(f.path)
	temporary := fmt.Sprintf(".%s.%d", name, os.Getpid())
	if err := disk.Replace(d, name, temporary, 0o644, append(text, '\n'), nil); err != nil {
		_ = d.Remove(temporary) // if it is there
		return err
	}
	return disk.SyncDir(d, ".")
}
