// Calls the service through openapi-fetch with the types of openapi-typescript: URL, image file.
import { readFileSync } from "node:fs";
import createClient from "openapi-fetch";
import type { components, paths } from "./schema";

const [url, photo] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl: url });

function form(body: { image: string | string[] }): FormData {
  const data = new FormData();
  for (const image of [body.image].flat()) data.append("image", image as unknown as Blob, "photo.jpg");
  return data;
}

// The types have a file as a text; the serializer gets what is sent.
const image = new Blob([readFileSync(photo)]) as unknown as string;
const one = await client.POST("/detect", {
  body: { image },
  params: { query: { score_threshold: 0.6 } },
  bodySerializer: form,
});
// CSV and drawn images are texts for the types.
if (typeof one.data !== "object" || !("boxes" in one.data)) throw new Error(JSON.stringify(one.error));
const detected: components["schemas"]["DetectResponse"] = one.data;
const objects = await client.POST("/detect", {
  body: { image },
  params: { query: { format: "objects" } },
  bodySerializer: form,
});
if (typeof objects.data !== "object" || !("objects" in objects.data)) throw new Error(JSON.stringify(objects.error));
const names: string[] = objects.data.objects.map((found) => found.name);
if (names.length === 0 || names.join() !== detected.names.join()) throw new Error(names.join());
const models = await client.GET("/models");
if (!models.data?.models.some((model) => model.name === "shapes")) throw new Error(JSON.stringify(models.error));
console.log("openapi-typescript:", names.join(", "));
