package damage

import (
	"io"
	"os"
	"slices"
)

// UsedPage is a page of the victim's that is in use: the first pages are the file's
// own, and those that were never used are zero. 0 if there is none.
func UsedPage(f *os.File, size int, share float64) (int64, error) {
	const first = 8
	var used []int64
	b := make([]byte, size)
	for page := int64(first); ; page++ {
		_, err := f.ReadAt(b, page*int64(size))
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, err
		}
		if slices.Max(b) > 0 {
			used = append(used, page)
		}
	}
	if len(used) == 0 {
		return 0, nil // the file is cut already
	}
	return used[int(share*float64(len(used)))], nil
}

// Flip changes one bit of a page.
func Flip(f *os.File, page int64, size int) error {
	b := make([]byte, 1)
	at := page*int64(size) + int64(size)/3
	if _, err := f.ReadAt(b, at); err != nil {
		return err
	}
	b[0] ^= 0x10
	_, err := f.WriteAt(b, at)
	return err
}

// Zero writes zeros over a page.
func Zero(f *os.File, page int64, size int) error {
	_, err := f.WriteAt(make([]byte, size), page*int64(size))
	return err
}

// Misplace writes a page where the next one belongs.
func Misplace(f *os.File, page int64, size int) error {
	b := make([]byte, size)
	if _, err := f.ReadAt(b, page*int64(size)); err != nil && err != io.EOF {
		return err
	}
	_, err := f.WriteAt(b, (page+1)*int64(size))
	return err
}

// Tear gives a page the second half of its neighbour.
func Tear(f *os.File, page int64, size int) error {
	b := make([]byte, size/2)
	if _, err := f.ReadAt(b, (page+1)*int64(size)+int64(size)/2); err != nil && err != io.EOF {
		return err
	}
	_, err := f.WriteAt(b, page*int64(size)+int64(size)/2)
	return err
}

// Cut makes the file end in the middle of what the server believes it to have.
func Cut(f *os.File, page int64, size int) error { return f.Truncate(page * int64(size)) }
