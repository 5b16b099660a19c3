package openapi

import "maps"

// tags group the operations.
var tags = []object{
	{"name": "Export", "description": "Kick-off, form, status, files."},
	{"name": "FHIR", "description": "Discovery and reads."},
	{"name": "SMART", "description": "Authorization."},
	{
		"name":        "Administration",
		"description": "Review, records, operation. By an administrator's session.",
	},
	{"name": "Watching", "description": "Health, metrics and this document."},
	{"name": "Pages", "description": "What people see."},
}

// schemas are what answers and bodies look like. Objects may have more properties than are listed:
// clients ignore what they do not know.
var schemas = object{
	"OperationOutcome": object{
		"type": "object", "required": []string{"resourceType", "id", "issue"},
		"properties": object{
			"resourceType": object{"const": "OperationOutcome"},
			"id": object{
				"type":        "string",
				"description": "The request's, as in X-Request-Id.",
			},
			"issue": object{"type": "array", "minItems": 1, "items": record(object{
				"severity": enum(
					"fatal",
					"error",
					"warning",
					"information",
				), "code": str(), "diagnostics": str()})},
		},
	},
	"Parameters": object{
		"type": "object", "required": []string{"resourceType"},
		"properties": object{
			"resourceType": object{"const": "Parameters"},
			"parameter":    array(record(object{"name": str()})),
		},
	},
	"Patient":             resource("Patient"),
	"Group":               resource("Group"),
	"CapabilityStatement": resource("CapabilityStatement"),
	"OperationDefinition": resource("OperationDefinition"),
	"Bundle": object{
		"type": "object", "required": []string{"resourceType", "type", "total", "link"},
		"properties": object{
			"resourceType": object{"const": "Bundle"},
			"type":         object{"const": "searchset"},
			"total":        integer(),
			"entry": array(record(object{
				"fullUrl":  str(),
				"resource": object{"type": "object"},
				"search":   object{"type": "object"},
			})),
			"link": array(record(object{"relation": str(), "url": str()})),
		},
	},
	"Manifest": record(object{
		"transactionTime": object{
			"type":        "string",
			"format":      "date-time",
			"description": "As of when the records were read.",
		}, "request?": str(), "requiresAccessToken": boolean(),
		"outputOrganizedBy?": object{"const": "Patient"}, "output": array(ref("ManifestEntry")),
		"deleted": array(ref("ManifestEntry")), "error": array(ref("ManifestEntry")),
		"link?":     array(record(object{"relation": object{"const": "next"}, "url": str()})),
		"extension": record(object{"ehiDocumentationUrl": str(), "metadata": str()}),
	}),
	"ManifestEntry": record(object{
		"type?": str(),
		"url":   str(),
		"count?": object{
			"type":    "integer",
			"minimum": 1,
			"description": "Resources of the file: its lines without the headers of a file " +
				"that is organized by patient. Absent where an older build counted those, too.",
		},
		"extension?": object{"oneOf": []object{
			record(object{"checksum?": ref("Checksum"), "damaged?": object{
				"const": true,
				"description": "The file is damaged on the server's disk and is answered by 500: " +
					"delete the export and ask for it again.",
			}}),
			array(object{
				"type":        "object",
				"description": "The same as FHIR extensions, in the form of the 4.0.0 ballot.",
				"required":    []string{"url"},
				"properties":  object{"url": str()},
			}),
		}},
	}),
	"Checksum": record(object{
		"documentationUrl": str(),
		"algorithm":        object{"const": "xxh3", "description": "XXH3 of 64 bits, without a seed."},
		"value":            object{"type": "string", "pattern": "^[0-9a-f]{16}$"},
		"size":             object{"type": "integer", "description": "Bytes that it is of."},
		"coding":           enum("identity", "gzip", "zstd"),
	}),
	"Form": object{
		"type": "object", "description": "The patient's choices (EHI-7). What is not enabled " +
			"or authorised stays out.",
		"properties": object{
			"parameters": mapping(object{
				"type": "object",
				"properties": object{"name": str(), "enabled": boolean(),
					"from": object{"type": []string{
						"string",
						"null",
					}}, "to": object{"type": []string{
						"string",
						"null",
					}}, "notes": object{"type": []string{"string", "null"}}},
			}),
			"authorizations": mapping(object{
				"type": "object",
				"properties": object{
					"name":  str(),
					"value": object{"type": []string{"boolean", "string"}}, "text?": str(),
				},
			}),
		},
	},
	"Choices": mapping(object{"type": "object"}),
	"Job": record(jobOf(object{
		"counts": mapping(integer()), "withheld": mapping(integer()), "approvals?": array(str()), "contents?": str(),
		"reason?": str(), "error?": str(),
	})),
	"SubmittedJob": record(jobOf(nil)),
	"JobPatient":   record(object{"id": str(), "name": str()}),
	"Attachment": record(object{
		"contentType": str(),
		"url":         str(),
		"size":        integer(),
		"hash":        str(),
		"title":       str(),
		"creation":    str(),
	}),
	"Metadata": record(object{
		"id": str(), "level": str(), "group": str(), "patient": ref("JobPatient"), "client": str(),
		"status": str(), "request": str(),
		"choices": object{"type": "object"}, "counts": mapping(integer()),
		"withheld?": mapping(integer()), "bytes?": integer(), "errors?": integer(),
		"times": record(object{
			"created":         str(),
			"requested":       str(),
			"transactionTime": str(),
			"completed":       str(),
			"approved":        str(),
			"expires":         str(),
		}),
	}),
	"Tokens": record(object{
		"access_token": str(), "token_type": enum(
			"Bearer",
			"bearer",
		), "expires_in": integer(), "scope": str(), "refresh_token?": str(), "id_token?": str(),
		"patient?": str(), "need_patient_banner?": boolean(),
	}),
	"Introspection": record(object{
		"active": boolean(), "scope?": str(), "client_id?": str(), "token_type?": str(),
		"exp?": integer(), "sub?": str(), "aud?": str(), "iss?": str(), "patient?": str(),
	}),
	"OAuthError": record(object{"error": str(), "error_description?": str()}),
	"Error":      record(object{"error": str()}),
	"Message":    record(object{"message": str()}),
	"SMARTConfiguration": record(object{
		"issuer": str(), "jwks_uri": str(), "authorization_endpoint": str(),
		"token_endpoint": str(), "revocation_endpoint": str(), "introspection_endpoint": str(),
		"grant_types_supported": array(str()), "response_types_supported": array(str()),
		"scopes_supported": array(str()), "code_challenge_methods_supported": array(str()),
		"token_endpoint_auth_methods_supported": array(str()), "capabilities": array(str()),
	}),
	"Clients": array(ref("RegisteredClient")),
	"RegisteredClient": record(object{
		"client_id": str(), "client_name": str(), "kind": enum("public", "confidential-symmetric",
			"confidential-asymmetric"), "redirect_uris?": array(str()),
		"redirect_origins?": array(str()), "scope": str(),
		"jwks?": object{"type": "object"}, "jwks_uri?": str(), "introspect?": boolean(),
		"may_skip_form?": boolean(), "may_skip_review?": boolean(),
		"created": str(), "created_by?": str(), "client_secret?": str(),
	}),
	"Registration": record(object{
		"client_id": str(), "client_id_issued_at": integer(), "client_secret?": str(),
		"client_secret_expires_at?": integer(), "client_name": str(), "scope": str(),
		"token_endpoint_auth_method": str(), "grant_types": array(str()), "response_types": array(str()),
	}),
	"Accounts": array(ref("Account")),
	"Account": record(object{
		"username": str(),
		"patient?": str(),
		"role?":    enum("viewer", "reviewer", "admin"),
		"created":  str(),
		"changed":  str(),

		"second_factor?": boolean(),
	}),
	"SigningKeys": array(record(object{
		"kid":      str(),
		"alg":      str(),
		"made":     str(),
		"retired?": str(),
	})),
	"JWKS":     record(object{"keys": array(record(object{"kty": str(), "kid": str()}))}),
	"Sweep":    record(object{"files": integer(), "records": integer(), "exports": integer()}),
	"LogLevel": record(object{"level": enum("DEBUG", "INFO", "WARN", "ERROR")}),
	"ImportReport": record(object{
		"files": integer(), "skipped": integer(), "counts": object{"type": []string{"object",
			"null"}}, "problems": integer(), "bad": object{"type": []string{
			"array",
			"null",
		}}, "ignored?": object{"type": []string{"array", "null"}},
	}),
}

// jobOf is what everybody sees of a job, and more.
func jobOf(more object) object {
	job := object{
		"id":      str(),
		"patient": ref("JobPatient"),
		"level":   enum("patient", "patients", "group", "system"),
		"group?":  str(),
		"manifest": object{"oneOf": []object{
			ref("Manifest"),
			{"type": "null"},
		}},
		"status": enum("awaiting-input", "requested", "retrieved", "approved", "rejected",
			"aborted", "failed"),
		"createdAt":      integer(),
		"completedAt":    integer(),
		"parameters":     ref("Choices"),
		"authorizations": ref("Choices"),
		"attachments":    array(ref("Attachment")),
		"autoApprove":    boolean(),
		"progress?":      str(),
	}
	maps.Copy(job, more)
	return job
}
