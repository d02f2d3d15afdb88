package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hb/sink/listing"
	"hb/source/infofile"
	"hb/source/mysqld/locks"
	"hb/stream/terminal/usage"
	"hb/xbstream/metadata"
)

// TestMessageKeys: the program gives facts to messages under documented keys only, and
// all documented keys are given by some code.
func TestMessageKeys(t *testing.T) {
	documented := map[string]bool{}
	for _, k := range usage.MessageKeys {
		documented[k.Name] = false
	}
	for _, e := range usage.Messages {
		for _, k := range e.Keys {
			documented[k.Name] = false
		}
	}
	for _, key := range []string{"time", "level", "msg"} { // which package slog adds
		documented[key] = true
	}
	for key, place := range givenKeys(t) {
		if _, known := documented[key]; !known {
			t.Errorf("%s: %s is not documented in package usage", place, key)
		}
		documented[key] = true
	}
	for key, given := range documented {
		if !given {
			t.Errorf("no code gives %s to a message", key)
		}
	}
}

// givenKeys are the keys that code gives to package slog, each with a place.
func givenKeys(t *testing.T) map[string]string {
	t.Helper()
	keys := make(map[string]string)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "scripts" || d.Name() == ".git"):
			return filepath.SkipDir
		case filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		files := token.NewFileSet()
		f, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			fun, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || len(call.Args) == 0 || !isSlog(fun.X) || strings.HasPrefix(fun.Sel.Name, "New") {
				return true
			}
			place := files.Position(call.Pos()).String()
			literal, ok := call.Args[0].(*ast.BasicLit)
			if !ok {
				t.Errorf("%s: slog.%s without a key that can be read here", place, fun.Sel.Name)
				return true
			}
			key, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Errorf("%s: %v", place, err)
			}
			keys[key] = place
			return true
		})
		return nil
	})
	if err != nil || len(keys) < 30 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	return keys
}

func isSlog(x ast.Expr) bool {
	id, ok := x.(*ast.Ident)
	return ok && id.Name == "slog"
}

// TestMessageObjects: what messages and files have inside is documented as the types
// have it that they are made from.
func TestMessageObjects(t *testing.T) {
	for name, v := range map[string]any{
		"position": metadata.BinlogPos{}, "manifest": metadata.Manifest{}, "binlog_home": metadata.BinlogHome{},
		"list": listing.Document{}, "database": listing.Total{}, "file": listing.File{}, "archive": metadata.Archive{},
		"lock_ms": metadata.LockTimes{}, "since": metadata.Since{}, "options": metadata.ArchiveFlags{}, "info": infofile.Info{}, "lock": locks.Timing{}.Told(),
	} {
		o, ok := usage.FindObject(name)
		if !ok {
			t.Errorf("there is no object %s", name)
			continue
		}
		var want []usage.Key
		typ := reflect.TypeOf(v)
		for i := range typ.NumField() {
			tag, options, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			want = append(want, usage.Key{Name: tag, Always: !strings.Contains(options, "omit")})
		}
		if len(want) != len(o.Keys) {
			t.Errorf("%s: %d keys, documented are %d", name, len(want), len(o.Keys))
		}
		for _, w := range want {
			if !slices.ContainsFunc(o.Keys, func(k usage.Key) bool { return k.Name == w.Name && k.Always == w.Always }) {
				t.Errorf("%s: %q, always there: %v, is not documented so", name, w.Name, w.Always)
			}
		}
	}
}
