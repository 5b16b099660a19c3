package server

import (
	"bytes"
	"context"
	"errors"

	"github.com/gofiber/fiber/v2"
	"github.com/segmentio/encoding/json"

	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/telemetry"
)

// Canonical URLs of what the server implements.
const (
	capability     = "http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"
	oauthExtension = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
	capabilityDate = "2026-11-24"
)

// handleCapabilities is the CapabilityStatement (BULK-9, REAL-4).
func (s *Server) handleCapabilities(c *fiber.Ctx) error {
	if err := negotiate(c); err != nil {
		return err
	}
	origin := s.origin(c)
	return sendFHIR(c, fiber.Map{
		"resourceType": "CapabilityStatement", "status": "active", "date": capabilityDate, "kind": "instance", "fhirVersion": "4.0.1",
		"publisher": "EHI export server", "format": []string{"application/fhir+json"}, "instantiates": []string{capability},
		"software":       fiber.Map{"name": "EHI export server", "version": telemetry.Version()},
		"implementation": fiber.Map{"description": "Argonaut EHI Export API", "url": origin + fhirBase(c)},
		"rest": []fiber.Map{{
			"mode": "server",
			"security": fiber.Map{
				"cors": true,
				"service": []fiber.Map{{"coding": []fiber.Map{{
					"system": "http://terminology.hl7.org/CodeSystem/restful-security-service", "code": "SMART-on-FHIR", "display": "SMART-on-FHIR"}}}},
				"extension": []fiber.Map{{"url": oauthExtension, "extension": []fiber.Map{
					{"url": "authorize", "valueUri": origin + "/auth/authorize"}, {"url": "token", "valueUri": origin + "/auth/token"}}}},
			},
			"resource": []fiber.Map{
				{"type": "Patient",
					"interaction": []fiber.Map{{"code": "read"}, {"code": "search-type"}},
					"searchParam": []fiber.Map{{"name": "_id", "type": "token"}},
					"operation":   []fiber.Map{{"name": "ehi-export", "definition": origin + "/fhir/OperationDefinition/ehi-export"}}},
				{"type": "OperationDefinition", "interaction": []fiber.Map{{"code": "read"}}},
			},
		}},
	})
}

// fhirBase is the variant of the FHIR base that a request came by.
func fhirBase(c *fiber.Ctx) string {
	i := bytes.Index([]byte(c.Path()), []byte("/fhir/"))
	return c.Path()[:i] + "/fhir"
}

// handleOperationDefinition describes $ehi-export (REAL-4) with the parameters of EHI-6.
func (s *Server) handleOperationDefinition(c *fiber.Ctx) error {
	if err := negotiate(c); err != nil {
		return err
	}
	in := func(name, typ, max, doc string) fiber.Map {
		return fiber.Map{"name": name, "use": "in", "min": 0, "max": max, "type": typ, "documentation": doc}
	}
	return sendFHIR(c, fiber.Map{
		"resourceType": "OperationDefinition", "id": "ehi-export", "url": s.origin(c) + "/fhir/OperationDefinition/ehi-export",
		"name": "EHIExport", "title": "Export of all electronic health information of a patient", "status": "active", "kind": "operation",
		"date": capabilityDate, "affectsState": true, "code": "ehi-export", "resource": []string{"Patient"},
		"system": false, "type": false, "instance": true,
		"description": "Asynchronous export of everything that is held about one patient. It answers 202 with the status URL in Content-Location and, unless the " +
			"form is off, a Link with rel=\"patient-interaction\" to the page on which the patient chooses what is released.",
		"parameter": []fiber.Map{
			in("_since", "instant", "1", "Only resources updated at or after this instant."),
			in("_until", "instant", "1", "Only resources updated before this instant."),
			in("_type", "string", "*", "Only these resource types, comma separated."),
			in("category", "string", "*", "Only these categories of the release form, comma separated: visits, labs, billing, medicalRecord, dischargeSummary, operative, pathology, radiology, photographs, other."),
			in("from", "date", "1", "Only what happened on or after this date, in the categories that take dates."),
			in("to", "date", "1", "Only what happened on or before this date, in the categories that take dates."),
		},
	})
}

// handlePatient reads the token's patient (BULK-8).
func (s *Server) handlePatient(c *fiber.Ctx) error {
	if err := negotiate(c); err != nil {
		return err
	}
	if c.Params("id") != access(c).Patient {
		return ehi.Errorf(ehi.NotFound, "Patient not found")
	}
	line, err := s.readPatient(c.Context(), access(c).Patient)
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, mimeFHIR)
	return c.Send(line)
}

// handlePatientSearch finds the token's patient and nobody else (BULK-8).
func (s *Server) handlePatientSearch(c *fiber.Ctx) error {
	if err := negotiate(c); err != nil {
		return err
	}
	id, entries := access(c).Patient, []fiber.Map{}
	if asked := c.Query("_id"); asked == "" || asked == id {
		line, err := s.readPatient(c.Context(), id)
		if err != nil {
			return err
		}
		entries = append(entries, fiber.Map{
			"fullUrl": s.origin(c) + "/fhir/Patient/" + id, "resource": json.RawMessage(line), "search": fiber.Map{"mode": "match"}})
	}
	return sendFHIR(c, fiber.Map{
		"resourceType": "Bundle", "type": "searchset", "total": len(entries), "entry": entries,
		"link": []fiber.Map{{"relation": "self", "url": s.origin(c) + c.OriginalURL()}},
	})
}

var errFound = errors.New("found")

// readPatient reads the Patient resource of a record.
func (s *Server) readPatient(ctx context.Context, id string) (line []byte, err error) {
	record, err := s.Source.Open(ctx, id)
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
	return nil, errors.Join(err, ehi.Errorf(ehi.NotFound, "Patient not found"))
}
