package datapackage

import (
	"encoding/json"
	"errors"
)

// least says of each geometry how its coordinates are nested in lists, and how many items the lists
// of each level have at least (RFC 7946 3.1). The innermost ones are positions.
var least = map[string][]int{
	"Point":           {},
	"MultiPoint":      {0},
	"LineString":      {2},
	"MultiLineString": {0, 2},
	"Polygon":         {0, 4},
	"MultiPolygon":    {0, 0, 4},
}

// arcs says how deeply the arcs of each geometry of TopoJSON are nested in lists.
var arcs = map[string]int{
	"LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3,
}

func geojsonForm(f *Field) func(string) error {
	is, why := isGeoJSON, errors.New("is no GeoJSON object")
	if f.Format == "topojson" {
		is, why = isTopoJSON, errors.New("is no TopoJSON object")
	}
	return func(s string) error {
		var object map[string]any
		if err := json.Unmarshal([]byte(s), &object); err != nil || !is(object) {
			return why
		}
		return nil
	}
}

// isBounds reports whether a value is a bbox of GeoJSON.
func isBounds(v any) bool { return isList(v, 4, isNumber) }

func isGeoJSON(v any) bool {
	object, _ := v.(map[string]any)
	if bounds, bounded := object["bbox"]; bounded && !isBounds(bounds) {
		return false
	}
	switch object["type"] {
	case "Feature":
		return isFeature(v)
	case "FeatureCollection":
		return isList(object["features"], 0, isFeature)
	}
	return isGeometry(v)
}

func isFeature(v any) bool {
	object, _ := v.(map[string]any)
	geometry, located := object["geometry"]
	properties, described := object["properties"]
	_, isObject := properties.(map[string]any)
	return object["type"] == "Feature" && located && (geometry == nil || isGeometry(geometry)) &&
		described && (properties == nil || isObject)
}

func isGeometry(v any) bool {
	object, _ := v.(map[string]any)
	kind, _ := object["type"].(string)
	if kind == "GeometryCollection" {
		return isList(object["geometries"], 0, isGeometry)
	}
	nested, known := least[kind]
	return known && isNested(object["coordinates"], nested, isPosition)
}

func isTopoJSON(v any) bool {
	object, _ := v.(map[string]any)
	if object["type"] != "Topology" {
		return isTopology(v)
	}
	objects, ok := object["objects"].(map[string]any)
	for _, o := range objects {
		ok = ok && isTopology(o)
	}
	return ok && isNested(object["arcs"], []int{0, 2}, isPosition)
}

// isTopology reports whether a value is a geometry of TopoJSON.
func isTopology(v any) bool {
	object, _ := v.(map[string]any)
	kind, _ := object["type"].(string)
	switch kind {
	case "GeometryCollection":
		return isList(object["geometries"], 0, isTopology)
	case "Point", "MultiPoint":
		return isNested(object["coordinates"], least[kind], isPosition)
	}
	depth, known := arcs[kind]
	return known && isNested(object["arcs"], make([]int, depth), isNumber)
}

// isNested reports whether a value consists of lists in lists with at least so many items.
func isNested(v any, least []int, leaf func(any) bool) bool {
	if len(least) == 0 {
		return leaf(v)
	}
	return isList(v, least[0], func(item any) bool { return isNested(item, least[1:], leaf) })
}

func isPosition(v any) bool { return isList(v, 2, isNumber) }

func isNumber(v any) bool {
	_, ok := v.(float64)
	return ok
}

func isList(v any, least int, item func(any) bool) bool {
	list, ok := v.([]any)
	for _, v := range list {
		ok = ok && item(v)
	}
	return ok && len(list) >= least
}
