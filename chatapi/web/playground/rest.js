// Swagger UI over this server's own document, with the playground's key, its first user and its open room filled in.
(async () => {
  const credentials = JSON.parse(sessionStorage.getItem("chatapi-playground") ?? "null");
  const spec = await (await fetch("/openapi.json")).json();
  spec.servers = [{ url: location.origin }]; // behind a proxy the page may know its address better than the server
  const roomId = sessionStorage.getItem("chatapi-playground-room");
  for (const parameter of parametersOf(spec)) if (parameter.name === "room_id" && roomId) parameter.example = roomId;
  const headers = { "x-api-key": credentials?.apiKey, "x-user-id": credentials?.a };

  const ui = SwaggerUIBundle({
    spec,
    dom_id: "#swagger",
    docExpansion: "list",
    defaultModelsExpandDepth: -1,
    displayRequestDuration: true,
    filter: true,
    tryItOutEnabled: true,
    syntaxHighlight: { activated: true, theme: "agate" },
    validatorUrl: null, // nothing is loaded from, or told to, another host
    onComplete: () => {
      if (!credentials) return;
      for (const [name, scheme] of Object.entries(spec.components?.securitySchemes ?? {})) {
        const value = scheme.type === "apiKey" && headers[scheme.name.toLowerCase()];
        if (value) ui.preauthorizeApiKey(name, value);
      }
    },
  });
})();

/** Every parameter that is written out in the document, shared ones included. */
function parametersOf(spec) {
  const inPaths = Object.values(spec.paths ?? {}).flatMap((path) => [path, ...Object.values(path)]).flatMap((one) => one?.parameters ?? []);
  return [...inPaths, ...Object.values(spec.components?.parameters ?? {})];
}
