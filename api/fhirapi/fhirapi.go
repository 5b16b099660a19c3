// Package fhirapi answers requests for FHIR resources: the CapabilityStatement, patients, groups
// and Binaries by id, and searches. (Package fhir of shared knows FHIR itself; so that the word
// fhir keeps that one meaning, this package does not share its name.)
//
// It never decides who may use a route: the router does, by its rules of access. It narrows what a
// patient's application gets to that patient. api/server uses it.
package fhirapi

import (
	"context"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/request"
	"ehi-server/api/trail"
	"ehi-server/exporter/source"
)

// Source is the records that are read (source.Source).
type Source interface {
	FindPatients(ctx context.Context, s source.Search) (source.Found, error)
	Open(ctx context.Context, patient string) (source.Record, error)
	Resource(ctx context.Context, patient, typ, id string) ([]byte, error)
	Groups(ctx context.Context) ([]string, error)
	Group(ctx context.Context, id string) ([]byte, error)
}

// Rules decide what of a record goes out (release.Rules).
type Rules interface {
	// Alone returns a Patient without what it refers to.
	Alone(patient []byte) ([]byte, error)
}

// Handlers answer the requests.
type Handlers struct {
	Source  Source
	Rules   Rules
	Trail   *trail.Recorder
	Origins request.Origins
	// Sandbox lets patients' applications read Binaries, and Patients as they are stored.
	Sandbox bool
}

// Router registers a handler behind the rule of access of its route, and what comes before that
// rule.
type Router interface {
	On(method, path string, handler fiber.Handler, before ...fiber.Handler)
}

// Routes registers what stands below one variant of the FHIR base (EHI-1), such as /no-form/fhir.
func (h *Handlers) Routes(r Router, base string) {
	r.On("GET", base+"/metadata", h.handleCapabilities)
	r.On("GET", base+"/OperationDefinition/:id", h.handleOperationDefinition)
	for _, search := range []struct{ method, path string }{{"GET", ""}, {"POST", "/_search"}} {
		r.On(search.method, base+"/Patient"+search.path, h.handleSearch("Patient", h.FindPatients))
		r.On(search.method, base+"/Group"+search.path, h.handleSearch("Group", h.findGroups))
	}
	r.On("GET", base+"/Patient/:id", h.handlePatient)
	r.On("GET", base+"/Binary/:id", h.handleBinary)
	r.On("GET", base+"/Group/:id", h.handleGroup)
}
