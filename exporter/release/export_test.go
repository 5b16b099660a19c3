package release

// AboutPaths are the reviewed table of what resources are about.
var AboutPaths = aboutPaths
