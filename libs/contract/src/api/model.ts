import { type TObject, type TProperties, Type } from 'typebox'

/** An object schema that the OpenAPI document shares under its title, so that generated clients have a type of that name. */
export function model<Properties extends TProperties>(
  title: string,
  properties: Properties,
): TObject<Properties> {
  return Type.Object(properties, { title })
}
