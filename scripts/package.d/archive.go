package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// licencesName is the file with the licences of what is built in.
const licencesName = "THIRD-PARTY-LICENSES"

// archive makes the archive of a target: of a name, which is also that of the
// directory in it.
func (m *maker) archive(t target, name, program string) error {
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	files, err := documents()
	if err != nil {
		return err
	}
	files = append(files, file{filepath.Base(program), content, true}, file{licencesName, m.licences, false})
	if t.os == "windows" {
		return m.pack(name, ".zip", files, packZip)
	}
	for _, f := range m.manuals {
		files = append(files, file{"man/" + f.name, f.content, false})
	}
	for _, f := range m.scripts {
		files = append(files, file{"completion/" + f.name, f.content, false})
	}
	return m.pack(name, ".tar.gz", files, packTar)
}

// documents are what there is to read: README.md, with what it refers to, and the
// licence.
func documents() (files []file, err error) {
	add := func(path string) error {
		content, err := os.ReadFile(path)
		files = append(files, file{name: filepath.ToSlash(path), content: content})
		return err
	}
	if err := errors.Join(add("README.md"), add("LICENSE")); err != nil {
		return nil, err
	}
	return files, filepath.WalkDir("docs", func(path string, d fs.DirEntry, err error) error {
		if ext := filepath.Ext(path); err != nil || ext != ".md" && ext != ".svg" {
			return err
		}
		return add(path)
	})
}

// packer writes files into an archive, in a directory of a name.
type packer func(w io.Writer, s *source, name string, files []file) error

func (m *maker) pack(name, ext string, files []file, pack packer) error {
	slices.SortFunc(files, byName)
	var b bytes.Buffer
	if err := pack(&b, m.source, name, files); err != nil {
		return err
	}
	return m.write(name+ext, b.Bytes())
}

func packTar(w io.Writer, s *source, name string, files []file) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	for _, f := range files {
		head := &tar.Header{
			Name: name + "/" + f.name, Typeflag: tar.TypeReg, Size: int64(len(f.content)), Mode: int64(f.mode()),
			ModTime: s.time, Uname: "root", Gname: "root", Format: tar.FormatUSTAR,
		}
		if err := t.WriteHeader(head); err != nil {
			return err
		}
		if _, err := t.Write(f.content); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}

func packZip(w io.Writer, s *source, name string, files []file) error {
	z := zip.NewWriter(w)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	for _, f := range files {
		head := &zip.FileHeader{Name: name + "/" + f.name, Method: zip.Deflate, Modified: s.time}
		head.SetMode(f.mode())
		to, err := z.CreateHeader(head)
		if err != nil {
			return err
		}
		if _, err := to.Write(f.content); err != nil {
			return err
		}
	}
	return z.Close()
}

// gzipped is content as gzip -9n has it, as Debian wants it.
func gzipped(content []byte) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	_, err = z.Write(content)
	err = errors.Join(err, z.Close())
	return b.Bytes(), err
}
