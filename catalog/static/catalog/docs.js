"use strict";

// What drf-spectacular writes into the page, where no Content-Security-Policy should allow a script.
const { schema, settings, csrfHeader, csrfToken } = document.getElementById("swagger-ui").dataset;

SwaggerUIBundle({
  url: schema,
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  requestInterceptor(request) {
    if (!["GET", undefined].includes(request.method) && request.credentials === "same-origin") {
      request.headers[csrfHeader] = csrfToken;
    }
    return request;
  },
  ...JSON.parse(settings),
});
