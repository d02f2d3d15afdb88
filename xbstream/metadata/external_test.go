package metadata

import (
	"slices"
	"testing"
	"testing/fstest"
)

func TestExternal(t *testing.T) {
	want := []ExternalSpace{
		{"/far/one.ibd", "one", ExternalTable, true}, {"/data/undo_001", "innodb_undo_001", ExternalUndo, false},
	}
	e := External{want, "/data/ibdata1"}
	text, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	const line = `{"version":2,"external_tablespaces":[{"file_name":"/far/one.ibd","tablespace_name":"one","tablespace_type":"TABLESPACE","hb_outside":true},` +
		`{"file_name":"/data/undo_001","tablespace_name":"innodb_undo_001","tablespace_type":"UNDO_LOG"}],"hb_system_tablespace":"/data/ibdata1"}` + "\n"
	if string(text) != line {
		t.Errorf("text = %s", text)
	}
	got, err := ReadExternal(fstest.MapFS{ExternalName: {Data: text}})
	if err != nil || !slices.Equal(got.Spaces, want) || got.System != e.System {
		t.Errorf("read %v, %v", got, err)
	}
	if got, err := ReadExternal(fstest.MapFS{}); err != nil || got.Spaces != nil {
		t.Errorf("without a file: %v, %v", got, err)
	}
	for _, bad := range []string{``, `{`, `[]`, `{"version":3}`, `{"version":0}`, `{"version":2,"external_tablespaces":[{"file_name":"x"}]}`,
		`{"version":2,"external_tablespaces":[{"file_name":"x","tablespace_name":"y","tablespace_type":"z"}]}`} {
		if _, err := UnmarshalExternal([]byte(bad)); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}
