package main

import (
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"strings"
)

// billOfMaterials is a CycloneDX bill of materials, version 1.6, as far as it has
// to do with Go.
type billOfMaterials struct {
	Schema       string      `json:"$schema"`
	Format       string      `json:"bomFormat"`
	SpecVersion  string      `json:"specVersion"`
	SerialNumber string      `json:"serialNumber"`
	Version      int         `json:"version"`
	Metadata     metadata    `json:"metadata"`
	Components   []component `json:"components"`
}

type metadata struct {
	Timestamp string    `json:"timestamp"`
	Component component `json:"component"`
}

type component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version"`
	Hashes     []hash     `json:"hashes,omitempty"`
	Licenses   []license  `json:"licenses,omitempty"`
	URL        string     `json:"purl,omitempty"`
	Properties []property `json:"properties,omitempty"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type license struct {
	License struct {
		ID string `json:"id"`
	} `json:"license"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// bill says what a program was built from, as the program itself says it.
func bill(program string, s *source) ([]byte, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, err
	}
	sum, _, err := sumOf(program)
	if err != nil {
		return nil, err
	}
	b := billOfMaterials{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6",
		SerialNumber: serial(sum), Version: 1,
		Metadata: metadata{s.rfc3339(), component{
			Type: "application", Ref: "hb", Name: "hb", Version: s.version, Licenses: make([]license, 1),
			Hashes:     []hash{{"SHA-256", hex.EncodeToString(sum)}},
			Properties: append([]property{{"commit", s.commit}}, settings(info)...),
		}},
	}
	b.Metadata.Component.Licenses[0].License.ID = "Apache-2.0"
	release := strings.TrimPrefix(info.GoVersion, "go")
	b.Components = []component{library("std", release)}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c := library(m.Path, m.Version)
		c.Properties = []property{{"go:sum", m.Sum}}
		b.Components = append(b.Components, c)
	}
	text, err := json.MarshalIndent(b, "", "  ")
	return append(text, '\n'), err
}

func library(path, version string) component {
	url := "pkg:golang/" + path + "@" + version
	return component{Type: "library", Ref: url, Name: path, Version: version, URL: url}
}

// settings are how the go command built it.
func settings(info *debug.BuildInfo) (list []property) {
	for _, s := range info.Settings {
		list = append(list, property{"go:" + s.Key, s.Value})
	}
	return list
}

// serial is a UUID of the program (RFC 9562, version 8).
func serial(sum []byte) string {
	id := append([]byte(nil), sum[:16]...)
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}
