package verify

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"mime"
	"regexp"
	"strings"
	"sync"
	"time"

	"ehi-server/api/client"
	"ehi-server/shared/fhir"
)

// Listed is a file that a list of native content names: an EHIDocumentReference (EHI-11, NAT-1).
type Listed struct {
	ID, Subject, Title, Description string
	ContentType, URL, Hash          string
	Size                            int64
	Format                          fhir.Coding
}

// reference is what is read of an EHIDocumentReference.
type reference struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Meta   struct {
		Tag []fhir.Coding `json:"tag"`
	} `json:"meta"`
	Subject     fhir.Reference `json:"subject"`
	Description string         `json:"description"`
	Content     []struct {
		Attachment struct {
			ContentType string `json:"contentType"`
			URL         string `json:"url"`
			Size        *int64 `json:"size"`
			Hash        string `json:"hash"`
			Title       string `json:"title"`
			Creation    string `json:"creation"`
		} `json:"attachment"`
		Format fhir.Coding `json:"format"`
	} `json:"content"`
}

// tag marks the DocumentReferences that an export made. All others are records.
const tag = "ehi-export"

var validID = regexp.MustCompile(`^[A-Za-z0-9.-]{1,64}$`)

// listedIn reads a line of a list. ok is false for a resource that is no EHIDocumentReference.
func listedIn(line []byte) (l Listed, ok bool, err error) {
	if !bytes.Contains(line, []byte(tag)) {
		return l, false, nil
	}
	var r reference
	if err := json.Unmarshal(line, &r); err != nil {
		return l, false, Wrongf("%v in %.200s", err, line)
	}
	tagged := false
	for _, t := range r.Meta.Tag {
		tagged = tagged || t.Code == tag
	}
	if !tagged {
		return l, false, nil
	}
	if why := r.fault(); why != "" {
		return l, true, Wrongf("%s in %.500s", why, line)
	}
	a := r.Content[0].Attachment
	return Listed{
		ID: r.ID, Subject: r.Subject.Reference, Title: a.Title, Description: r.Description,
		ContentType: a.ContentType, URL: a.URL, Hash: a.Hash, Size: *a.Size,
		Format: r.Content[0].Format,
	}, true, nil
}

// fault says what is wrong with an EHIDocumentReference by itself; "" if nothing is.
func (r *reference) fault() string {
	if !validID.MatchString(r.ID) {
		return "no valid id"
	}
	if r.Status != "current" {
		return "the status is not current"
	}
	if len(r.Content) != 1 {
		return "not one content"
	}
	a, format := r.Content[0].Attachment, r.Content[0].Format
	digest, err := base64.StdEncoding.DecodeString(a.Hash)
	if err != nil || a.Hash != "" && len(digest) != sha1.Size {
		return "the hash is no SHA-1"
	}
	if _, _, err := mime.ParseMediaType(a.ContentType); err != nil {
		return "no valid contentType"
	}
	if _, err := time.Parse(time.RFC3339, a.Creation); err != nil {
		return "no valid creation"
	}
	switch {
	case a.Size == nil || *a.Size < 0:
		return "no valid size"
	case a.URL == "" || a.Title == "":
		return "no url, or no title"
	case format.System == "" || format.Code == "":
		return "no format"
	}
	if _, ok := link(r.Description, format); documented(format) && !ok {
		return "the description has no link to the documentation of the format"
	}
	return ""
}

// documented reports whether a format is one of our documentation. Documents that an administrator
// attached have one of IHE.
func documented(format fhir.Coding) bool { return strings.HasSuffix(format.System, "/docs/ehi") }

// link returns the fragment of the documentation that a description links to.
func link(description string, format fhir.Coding) (fragment string, ok bool) {
	_, fragment, ok = strings.Cut(description, format.System+"#")
	fragment, _, _ = strings.Cut(fragment, " ")
	return fragment, ok && fragment != ""
}

// Pages remembers which fragments the pages of documentation have. Exports share it, so that
// each page is read once.
type Pages struct {
	mu  sync.Mutex
	ids map[string]map[string]bool
}

var elementID = regexp.MustCompile(`\sid="([^"]+)"`)

// check checks that the documentation of a file exists.
func (p *Pages) check(ctx context.Context, c *client.Client, l Listed) error {
	if !documented(l.Format) {
		return nil
	}
	fragment, _ := link(l.Description, l.Format) // listedIn found it
	if !strings.HasPrefix(fragment, "table-") && fragment != "format-"+l.Format.Code {
		return Wrongf("%s has the format %s, and its description links to %s", l.URL,
			l.Format.Code, fragment)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ids[l.Format.System][fragment] {
		return nil
	}
	page, err := c.Download(ctx, l.Format.System)
	if err != nil {
		return err
	}
	ids := map[string]bool{}
	for _, m := range elementID.FindAllSubmatch(page, -1) {
		ids[string(m[1])] = true
	}
	if p.ids == nil {
		p.ids = map[string]map[string]bool{}
	}
	p.ids[l.Format.System] = ids
	if !ids[fragment] {
		return Wrongf("%s is documented at %s#%s, which does not exist", l.URL, l.Format.System,
			fragment)
	}
	return nil
}
