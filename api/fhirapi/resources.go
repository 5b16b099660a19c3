package fhirapi

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"ehi-server/api/content"
	"ehi-server/api/request"
	"ehi-server/exporter/jobs"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
	"ehi-server/shared/telemetry"
)

// Canonical URLs of what the server implements.
const (
	capability     = "http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"
	bulkOperation  = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/"
	oauthExtension = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
	capabilityDate = "2026-11-24"
)

// handleCapabilities returns the CapabilityStatement (BULK-9, REAL-4).
func (h *Handlers) handleCapabilities(c *fiber.Ctx) error {
	if err := content.Negotiate(c); err != nil {
		return err
	}
	origin := h.Origins.Base(c)
	ehiExport := fiber.Map{
		"name":       "ehi-export",
		"definition": origin + "/fhir/OperationDefinition/ehi-export",
	}
	export := func(canonical string) fiber.Map {
		return fiber.Map{"name": "export", "definition": bulkOperation + canonical}
	}
	return content.Resource(c, fiber.Map{
		"resourceType": "CapabilityStatement",
		"status":       "active",
		"date":         capabilityDate,
		"kind":         "instance",
		"fhirVersion":  "4.0.1",
		"publisher":    "EHI export server",
		"format":       []string{"application/fhir+json"},
		"instantiates": []string{capability},
		"software":     fiber.Map{"name": "EHI export server", "version": telemetry.Version()},
		"implementation": fiber.Map{
			"description": "Argonaut EHI Export API and Bulk Data Access",
			"url":         origin + fhirBase(c),
		},
		"rest": []fiber.Map{{
			"mode": "server",
			"security": fiber.Map{
				"cors": true,
				"service": []fiber.Map{{"coding": []fiber.Map{{
					"system":  "http://terminology.hl7.org/CodeSystem/restful-security-service",
					"code":    "SMART-on-FHIR",
					"display": "SMART-on-FHIR",
				}}}},
				"extension": []fiber.Map{{"url": oauthExtension, "extension": []fiber.Map{
					{"url": "authorize", "valueUri": origin + "/auth/authorize"},
					{"url": "token", "valueUri": origin + "/auth/token"},
				}}},
			},
			"documentation": "Use an export to get resources of the types without interactions.",
			"resource": exportedTypes([]fiber.Map{
				{"type": "Patient",
					"interaction": []fiber.Map{{"code": "read"}, {"code": "search-type"}},
					"searchParam": searchParameters("Patient"),
					"operation":   []fiber.Map{ehiExport, export("patient-export")}},
				{"type": "Group",
					"interaction": []fiber.Map{{"code": "read"}, {"code": "search-type"}},
					"searchParam": searchParameters("Group"),
					"operation":   []fiber.Map{ehiExport, export("group-export")}},
				{"type": "Binary", "interaction": []fiber.Map{{"code": "read"}}},
				{"type": "OperationDefinition", "interaction": []fiber.Map{{"code": "read"}}},
			}),
			"operation": []fiber.Map{ehiExport, export("export")},
		}},
	})
}

// exportedTypes adds the types that only an export reads to those with interactions. Bulk
// clients request only types that the CapabilityStatement lists.
func exportedTypes(listed []fiber.Map) []fiber.Map {
	for _, t := range fhir.Types() {
		known := func(m fiber.Map) bool { return m["type"] == t }
		if t != "Parameters" && !slices.ContainsFunc(listed, known) {
			listed = append(listed, fiber.Map{"type": t})
		}
	}
	return listed
}

// fhirBase returns the variant of the FHIR base of a request.
func fhirBase(c *fiber.Ctx) string {
	i := bytes.Index([]byte(c.Path()), []byte("/fhir/"))
	return c.Path()[:i] + "/fhir"
}

// handleOperationDefinition describes $ehi-export (REAL-4) with the parameters of EHI-6.
func (h *Handlers) handleOperationDefinition(c *fiber.Ctx) error {
	if err := content.Negotiate(c); err != nil {
		return err
	}
	if c.Params("id") != "ehi-export" {
		return ehi.Errorf(ehi.NotFound, "OperationDefinition not found")
	}
	var categories []string
	for _, c := range ehi.Categories() {
		categories = append(categories, string(c.Key))
	}
	in := func(name, typ, max, doc string) fiber.Map {
		return fiber.Map{
			"name":          name,
			"use":           "in",
			"min":           0,
			"max":           max,
			"type":          typ,
			"documentation": doc,
		}
	}
	return content.Resource(c, fiber.Map{
		"resourceType": "OperationDefinition",
		"id":           "ehi-export",
		"url":          h.Origins.Base(c) + "/fhir/OperationDefinition/ehi-export",
		"name":         "EHIExport",
		"title":        "Export of all electronic health information of a patient or a population",
		"status":       "active",
		"kind":         "operation",
		"date":         capabilityDate,
		"affectsState": true,
		"code":         "ehi-export",
		"resource":     []string{"Patient", "Group"},
		"system":       true,
		"type":         false,
		"instance":     true,
		"description": "Exports everything that is stored about one patient, the members of a " +
			"group or all patients, asynchronously. The response is 202 with the status URL " +
			"in Content-Location. Unless the form is off, a Link with " +
			"rel=\"patient-interaction\" leads to the page on which the patient chooses what " +
			"to share.",
		"parameter": []fiber.Map{
			in("_since", "instant", "1", "Only resources updated at or after this instant."),
			in("_until", "instant", "1", "Only resources updated before this instant."),
			in("_type", "string", "*", "Only these resource types, comma separated."),
			in("category", "string", "*",
				"Only these categories of the release form, comma separated: "+
					strings.Join(categories, ", ")+"."),
			in("from", "date", "1",
				"Only what happened on or after this date, in the categories that take dates."),
			in("to", "date", "1",
				"Only what happened on or before this date, in the categories that take dates."),
			in("_compression", "code", "1",
				"How to store the files: identity, gzip or zstd. "+
					"They are sent in a coding that the client accepts."),
			in("_outputFormat", "string", "1", "NDJSON, by any of its names."),
			in("_package", "code", "1",
				"How documents and tables come: files or zip. Populations have only zip."),
			in("patient", "Reference", "*", "Only these members of the group, in the body."),
			in("_typeFilter", "string", "*",
				"Of a population: searches that resources of their types must match."),
			in("_elements", "string", "*",
				"Of a population: only these elements and the mandatory ones, comma separated."),
			in("includeAssociatedData", "code", "*",
				"Of a population: RelevantProvenanceResources."),
			in("organizeOutputBy", "code", "1",
				"Of a population: Patient, to keep the resources of each patient together."),
			in("allowPartialManifests", "boolean", "1",
				"Of a population: whether the manifest may come in pages."),
		},
	})
}

// handlePatient reads the token's patient (BULK-8).
func (h *Handlers) handlePatient(c *fiber.Ctx) error {
	if err := content.Negotiate(c); err != nil {
		return err
	}
	if a := request.Access(c); !a.System() && c.Params("id") != a.Patient {
		return jobs.ErrPatientNotFound
	}
	line, err := h.readPatient(c.UserContext(), c.Params("id"))
	if err == nil {
		line, err = h.alone(c, line)
	}
	if err == nil {
		line, err = h.linked(c, line)
	}
	if err != nil {
		return err
	}
	h.Trail.Record(c, nil, ehi.Event{
		Action:  ehi.ActionRead,
		Patient: c.Params("id"),
		Detail:  "Patient",
	})
	c.Set(fiber.HeaderContentType, content.FHIR)
	return c.Send(line)
}

// alone returns a Patient as the reader may have it. In production, a patient's application does
// not see what the Patient refers to, such as the clinic or the doctor: only the form releases
// that.
func (h *Handlers) alone(c *fiber.Ctx, line []byte) ([]byte, error) {
	if request.Access(c).System() || h.Sandbox {
		return line, nil
	}
	return h.Rules.Alone(line)
}

// handleGroup reads a group of patients (BULK-8).
func (h *Handlers) handleGroup(c *fiber.Ctx) error {
	if err := content.Negotiate(c); err != nil {
		return err
	}
	line, err := h.Source.Group(c.UserContext(), c.Params("id"))
	if err == nil {
		line, err = h.linked(c, line)
	}
	if err != nil {
		return err
	}
	h.Trail.Record(c, nil, ehi.Event{Action: ehi.ActionRead, Detail: "Group/" + c.Params("id")})
	c.Set(fiber.HeaderContentType, content.FHIR)
	return c.Send(line)
}

var errFound = errors.New("found")

// readPatient reads the Patient resource of a record.
func (h *Handlers) readPatient(ctx context.Context, id string) (line []byte, err error) {
	record, err := h.Source.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	defer record.Close() // read only
	err = record.Scan(ctx, source.Query{Types: []string{"Patient"}}, func(r source.Resource) error {
		line = bytes.Clone(r.Line)
		return errFound
	})
	if errors.Is(err, errFound) {
		return line, nil
	}
	return nil, errors.Join(err, jobs.ErrPatientNotFound)
}
