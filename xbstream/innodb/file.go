package innodb

import "slices"

// File is one file of a tablespace: what its pages are verified by, where they
// are copied and wherever they are looked at again.
type File struct {
	Space
	First  PageNo      // number of the file's first page in the tablespace
	Exempt []PageRange // places without pages: see Space.DoublewriteArea
}

// VerifyAt checks the page that is in the file at an offset, a multiple of the
// page size: see Space.Verify. The error is a *PageError.
func (f *File) VerifyAt(page []byte, off int64) (Checksum, error) {
	no := f.First + PageNo(off/int64(f.Physical))
	if f.Exempts(no) {
		return ChecksumUnset, nil
	}
	sum, err := f.Verify(page, no)
	if err != nil && off == 0 && f.First > 0 && Blank(page) {
		return ChecksumUnset, nil
	}
	return sum, err
}

// Exempts reports whether page no is not verified.
func (f *File) Exempts(no PageNo) bool {
	return slices.ContainsFunc(f.Exempt, func(r PageRange) bool { return r.Contains(no) })
}

// Blank reports whether a page was never written, apart from the flush LSN, which
// MySQL 5.6 keeps in the first page of each file of the system tablespace
// (fil_write_lsn_and_arch_no_to_file).
func Blank(page []byte) bool {
	const end = OffsetFlushLSN + 8
	return len(page) >= end && AllZero(page[:OffsetFlushLSN]) && AllZero(page[end:])
}

// Encrypted reports whether pages of the tablespace may be encrypted at rest.
func (s *Space) Encrypted() bool { return s.Encryption.MayEncrypt() || s.MySQLEncrypted() }
