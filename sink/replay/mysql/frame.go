package mysql

import "hb/xbstream/innodb"

// Frame returns an index page of ROW_FORMAT=COMPRESSED as servers have it in memory, in
// Space.Logical bytes. MariaDB's are the same as MySQL's.
func Frame(space *innodb.Space, image []byte) ([]byte, error) {
	p := &page{space: space, image: image}
	if err := p.zipOpen(); err != nil {
		return nil, err
	}
	return p.frame, nil
}
