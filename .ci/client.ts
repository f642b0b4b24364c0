// A client as somebody would write it from the OpenAPI description alone; it must compile under `tsc --strict`.
// With an address it also runs: `node client.js http://localhost:8000`.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema";

type Screenshot = components["schemas"]["Screenshot"];
type Problem = components["schemas"]["Problem"];
type Filters = NonNullable<paths["/api/v1/screenshots/"]["get"]["parameters"]["query"]>;

// `tag` is repeated, while `ids`, `fields` and `include` are written with commas.
function querySerializer(query: object): string {
  const pairs = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (name === "tag" && Array.isArray(value)) value.forEach((tag) => pairs.append(name, String(tag)));
    else if (value !== undefined) pairs.append(name, String(value));
  }
  return pairs.toString();
}

const baseUrl = process.argv[2] ?? "";
const client = createClient<paths>({ baseUrl, querySerializer });

function refused(problem: Problem): never {
  throw new Error(`${problem.status} ${problem.title}: ${problem.suggestion ?? problem.allowed?.join() ?? ""}`);
}

function cursorOf(link: string | null): string | undefined {
  return link === null ? undefined : (new URL(link, baseUrl).searchParams.get("cursor") ?? undefined);
}

async function page(filters: Filters) {
  const { data, error } = await client.GET("/api/v1/screenshots/", { params: { query: filters } });
  return data ?? refused(error);
}

async function* everything(filters: Filters): AsyncGenerator<Screenshot> {
  let cursor: string | undefined;
  do {
    const { results, next } = await page({ ...filters, cursor });
    yield* results;
    cursor = cursorOf(next);
  } while (cursor !== undefined);
}

async function forthAndBack(filters: Filters): Promise<boolean> {
  const first = await page(filters);
  const second = await page({ ...filters, cursor: cursorOf(first.next) });
  const again = await page({ ...filters, cursor: cursorOf(second.previous) });
  return first.results.every((shot, place) => shot.id === again.results[place]?.id);
}

async function detail(id: number) {
  const { data, error, response } = await client.GET("/api/v1/screenshots/{id}/", { params: { path: { id } } });
  const shot = data ?? refused(error);
  const renditions = await client.GET("/api/v1/screenshots/{screenshot_id}/renditions/", {
    params: { path: { screenshot_id: id }, query: { page_size: "max" } },
  });
  const files = (renditions.data ?? refused(renditions.error)).results;
  const widths: (number | undefined)[] = files.map((rendition) => rendition.width);
  const viewport: { width: number; height: number } | undefined = shot.viewport;
  return { etag: response.headers.get("ETag"), title: shot.title, viewport, widths };
}

async function nested(gallery_slug: string): Promise<string[]> {
  const { data, error } = await client.GET("/api/v1/galleries/{gallery_slug}/screenshots/", {
    params: { path: { gallery_slug }, query: { ordering: "position", fields: ["id", "tags"] } },
  });
  return (data ?? refused(error)).results.flatMap((shot) => shot.tags ?? []);
}

async function main(): Promise<void> {
  const filters: Filters = { tag: ["dark"], orientation: "landscape", status: "ready", min_width: 320, page_size: 5 };
  let count = 0;
  for await (const shot of everything(filters)) {
    if (shot.orientation !== "landscape") throw new Error(`${shot.id} is ${shot.orientation}`);
    count += 1;
  }
  const [newest] = (await page({ ordering: "-captured_at", page_size: 1 })).results;
  if (newest?.id === undefined || newest.gallery === undefined) throw new Error("There is no screenshot.");
  const picked = await page({ ids: [newest.id, newest.id + 1], fields: ["id", "title"] });
  console.log(count, await forthAndBack({ page_size: 5 }), picked.results.length);
  console.log(await detail(newest.id), (await nested(newest.gallery)).length);

  // What the description rules out must not compile.
  // @ts-expect-error: there is no such orientation
  await page({ orientation: "diagonal" }).catch((problem: Error) => console.log(problem.message));
  // @ts-expect-error: there is no such parameter
  await page({ tga: "dark" }).catch((problem: Error) => console.log(problem.message));
}

void main();
