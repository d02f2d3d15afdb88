package catalog

import (
	"bytes"
	"fmt"

	"hb/xbstream"
	"hb/xbstream/metadata"
)

// indexProof compares the index of an archive of hb's with the archive, chunk by
// chunk: the index must be the one that these chunks make. The archive may have
// none.
type indexProof struct {
	made  xbstream.Indexer
	at    int64  // where the index begins; 0: it has not come
	rest  []byte // what is still to come of it
	wrong bool
	lines uint32 // of the manifest
	order bool   // the manifest lists files in another order than that of their ends
}

// add takes the next chunk.
func (p *indexProof) add(ch *xbstream.Chunk) {
	switch {
	case ch.Path == metadata.ManifestName:
	case ch.Path != metadata.IndexName:
		if ch.Type == xbstream.End {
			p.made.End(ch.Path)
		} else {
			p.made.Payload(ch.Path, len(ch.Data))
		}
		p.wrong = p.wrong || p.at != 0 // it is not in the index
	default:
		p.compare(ch)
	}
}

// compare takes a chunk of the index.
func (p *indexProof) compare(ch *xbstream.Chunk) {
	if p.at == 0 {
		made, ok := p.made.Bytes()
		p.at, p.rest, p.wrong = ch.At, made, !ok
	}
	rest, ok := bytes.CutPrefix(p.rest, ch.Data)
	p.rest = rest
	p.wrong = p.wrong || !ok || ch.Type == xbstream.End && len(rest) > 0
}

// listed takes the number of the file, in the order of their ends, that the next line
// of the manifest is about.
func (p *indexProof) listed(number uint32) {
	p.order = p.order || number != p.lines
	p.lines++
}

// fault is what is wrong, or "". at is where the index begins by the manifest. If the
// manifest does not have that, a file of that name is like others.
func (p *indexProof) fault(at int64) string {
	switch {
	case at == 0:
		return ""
	case at != p.at:
		return fmt.Sprintf("the manifest says that the index begins at byte %d, and it begins at byte %d", at, p.at)
	case p.wrong:
		return "the index is not that of the chunks before it"
	case p.order:
		return "the manifest lists files in another order than that of their ends, which the index relies on"
	}
	return ""
}
